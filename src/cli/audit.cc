// audit: the ledger, read, verified and proven; proofs and checkpoints verified with the public key alone.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <ostream>
#include <thread>

#include "base/file.h"
#include "base/text.h"
#include "cli/audit_events.h"
#include "cli/progress.h"
#include "cli/verbs.h"
#include "ledger/format.h"
#include "ledger/reader.h"
#include "ledger/signed_head.h"

namespace daemoneye::cli {
namespace {

constexpr std::chrono::milliseconds look_again{50};
constexpr std::size_t max_key_file_bytes = 4096, max_checkpoint_file_bytes = 64 * 1024 * 1024;

Outcome<std::unique_ptr<ledger::LedgerReader>> open_ledger(Invocation& invocation) {
  CLI_TRY(const auto* loaded, invocation.loaded());
  const auto& path = loaded->settings.audit.path;
  auto reader = ledger::LedgerReader::open(path);
  if (reader) return std::move(*reader);
  Failure failure(reader.error());
  if (reader.error().code == Errc::permission_denied) {
    failure.details = {"members of the group daemoneye may read " + path};
  }
  return std::unexpected(std::move(failure));
}

// A file that the caller names: what is wrong with it is told with its name, as invalid input.
template <class T, class Parse>
Outcome<T> read_named(const std::string& path, std::size_t max_bytes, Parse parse) {
  auto bytes = base::read_file(path, max_bytes);
  if (!bytes) return std::unexpected(Failure(Exit::usage, bytes.error().message));
  auto parsed = parse(*bytes);
  if (!parsed) return std::unexpected(Failure(Exit::usage, path + ": " + base::printable(parsed.error().message)));
  return std::move(*parsed);
}

// What procmond leaves beside a ledger: where one of these is and the ledger not, it was taken away.
bool was_there(const config::Settings::Audit& audit) {
  std::error_code error;
  for (const auto& path : {audit.path + ".lock", audit.path + ".batches", ledger::segment_path(audit.path, 1),
                           audit.key_path, audit.key_path + ".pub", ledger::signed_head_path(audit.key_path)}) {
    if (std::filesystem::exists(path, error)) return true;
  }
  return false;
}

// A ledger that was taken away or made unreadable is a violation, and no ledger that is not there yet.
Outcome<std::unique_ptr<ledger::LedgerReader>> open_to_verify(Invocation& invocation) {
  auto reader = open_ledger(invocation);
  if (reader) return reader;
  CLI_TRY(const auto* loaded, invocation.loaded());
  const auto& audit = loaded->settings.audit;
  const auto opened = ledger::LedgerReader::open(audit.path);
  if (opened) return reader;
  const auto& error = opened.error();
  const bool taken = error.code == Errc::not_found && was_there(audit);
  const bool altered = error.code == Errc::invalid_input && error.message.contains("another kind of file");
  if (!taken && !altered) return reader;
  return std::unexpected(Failure(Exit::integrity, error.message,
                                 {taken ? "there was a ledger: what belongs to one is still there"
                                        : "the mark by which a ledger is known was altered, or the file replaced"}));
}

Outcome<ledger::PublicKey> read_key(const std::string& path) {
  return read_named<ledger::PublicKey>(path, max_key_file_bytes,
                                       [](const std::string& text) { return ledger::PublicKey::parse(text); });
}

// One a line, of any of the files.
Outcome<std::vector<ledger::PublicKey>> read_keys(const std::vector<std::string>& paths) {
  std::vector<ledger::PublicKey> all;
  for (const auto& path : paths) {
    CLI_TRY(auto keys,
            read_named<std::vector<ledger::PublicKey>>(
                path, max_key_file_bytes, [](const std::string& text) -> Result<std::vector<ledger::PublicKey>> {
                  std::vector<ledger::PublicKey> found;
                  for (const auto line : base::split(base::trim(text), '\n')) {
                    DE_TRY(auto key, ledger::PublicKey::parse(line));
                    found.push_back(std::move(key));
                  }
                  return found;
                }));
    all.insert(all.end(), keys.begin(), keys.end());
  }
  return all;
}

bool is_signed_by_any(const ledger::Note& note, const std::vector<ledger::PublicKey>& keys) {
  return std::ranges::any_of(keys, [&](const ledger::PublicKey& key) { return note.is_signed_by(key); });
}

std::string ids_of(const std::vector<ledger::PublicKey>& keys) {
  std::string ids;
  for (const auto& key : keys) ids += (ids.empty() ? "" : ", ") + key.id();
  return ids;
}

struct SignedCheckpoint {
  ledger::Note note;
  ledger::Checkpoint checkpoint;
};

// All that stand in the file, but for what a full disk cut off; at least one.
Outcome<std::vector<SignedCheckpoint>> read_checkpoints(const std::string& path, Invocation& invocation) {
  std::size_t damaged = 0;
  auto read = read_named<std::vector<SignedCheckpoint>>(
      path, max_checkpoint_file_bytes, [&](const std::string& bytes) -> Result<std::vector<SignedCheckpoint>> {
        DE_TRY(auto notes, ledger::parse_notes(bytes, &damaged));
        if (notes.empty()) return fail(Errc::invalid_input, "holds no checkpoint");
        std::vector<SignedCheckpoint> all;
        for (auto& note : notes) {
          DE_TRY(auto checkpoint, ledger::Checkpoint::parse(note.text));
          all.push_back({std::move(note), std::move(checkpoint)});
        }
        return all;
      });
  if (read && damaged > 0) {
    invocation.err() << "note: " << path << ": " << damaged << " damaged checkpoints are left out\n";
  }
  return read;
}

struct VerifyRequest {
  bool events = false;
  std::string key, against;
};

// What was kept elsewhere must have been signed by the keys of this ledger.
std::optional<std::string> fault_of_kept(const std::vector<SignedCheckpoint>& kept,
                                         const ledger::LedgerReader::Report& report, const VerifyRequest& request) {
  auto keys = report.trusted;
  if (request.key.empty()) {
    for (const auto& text : report.keys) {
      if (auto key = ledger::PublicKey::parse(text)) keys.push_back(std::move(*key));
    }
  }
  for (const auto& [note, checkpoint] : kept) {
    const auto what = request.against + ": the checkpoint of " + std::to_string(checkpoint.size) + " entries ";
    if (!report.origin.empty() && checkpoint.origin != report.origin) {
      return what + "is of the ledger '" + checkpoint.origin + "', and this is '" + report.origin +
             "': the wrong file, or the ledger was begun anew";
    }
    if (!is_signed_by_any(note, keys)) {
      return what + (request.key.empty() ? "is signed by no key that the ledger names"
                                         : "is not signed by the key " + ids_of(keys) +
                                               (keys.size() > 1 ? ", one handed over to by the other" : ""));
    }
  }
  return std::nullopt;
}

// Nothing is wrong, and still not all is what the given key vouches for. What the collector has not come to sign yet
// is a note only.
std::optional<std::string> why_unsure(const ledger::LedgerReader::Report& report, std::uint32_t interval_s,
                                      Invocation& invocation) {
  if (!report.notices.empty()) return "the keys do not vouch for each other throughout: see the notes";
  if (report.unsigned_entries == 0) return std::nullopt;
  const auto what = "the last " + std::to_string(report.unsigned_entries) + " entries are not under a checkpoint";
  constexpr std::int64_t ns_per_s = 1'000'000'000, late_s = 60;
  const auto age = base::wall_now().ns - report.unsigned_since.value_or(Timestamp{}).ns;
  if (age > (std::int64_t{2} * interval_s + late_s) * ns_per_s) {
    return what + ", and no collector signs them: nothing but the ledger itself vouches for them";
  }
  invocation.err() << "note: " << what << " yet\n";
  return std::nullopt;
}

Outcome<Exit> verify_ledger(const VerifyRequest& request, Invocation& invocation) {
  ledger::LedgerReader::VerifyOptions options;
  if (!request.key.empty()) {
    CLI_TRY(auto key, read_key(request.key));
    options.key = std::move(key);
  }
  std::vector<SignedCheckpoint> kept;
  if (!request.against.empty()) {
    CLI_TRY(kept, read_checkpoints(request.against, invocation));
    for (const auto& each : kept) options.against.push_back(each.note);
  }
  CLI_TRY(const auto* loaded, invocation.loaded());
  const auto& audit = loaded->settings.audit;
  options.checkpoint_interval = std::chrono::seconds(audit.checkpoint_interval_s);
  options.checkpoint_entries = audit.checkpoint_entries;
  CLI_TRY(const auto reader, open_to_verify(invocation));
  Progress progress(invocation, "verifying the ledger");
  options.progress = [&](std::uint64_t done, std::uint64_t total) { progress.show(done, total); };
  options.stop = [&] { return invocation.interrupted() || invocation.deadline().expired(); };
  const auto report = reader->verify(options);
  progress.clear();
  if (!report) {
    if (report.error().code != Errc::cancelled) return std::unexpected(Failure(report.error()));
    return std::unexpected(Failure(Exit::failed, report.error().message, {"--timeout gives it more time"}));
  }
  const auto wrong_anchor = report->first_bad ? std::nullopt : fault_of_kept(kept, *report, request);
  event::Value bad_sequence, bad_what, last_key;
  if (report->first_bad) {
    bad_sequence = static_cast<std::int64_t>(report->first_bad->sequence);
    bad_what = report->first_bad->what;
  }
  if (wrong_anchor) bad_what = *wrong_anchor;
  if (!report->keys.empty()) last_key = report->keys.back();
  const bool bad = report->first_bad || wrong_anchor;
  if (!request.events || bad) {
    write_record(invocation,
                 {{"entries"},
                  {"root"},
                  {"verdict"},
                  {"first_bad_seq"},
                  {"first_bad"},
                  {"checkpoints"},
                  {"signed_until"},
                  {"key"},
                  {"unsigned"}},
                 {static_cast<std::int64_t>(report->entries), base::to_hex(report->root),
                  std::string(bad ? "bad" : "intact"), bad_sequence, bad_what,
                  static_cast<std::int64_t>(report->checkpoints), static_cast<std::int64_t>(report->signed_until),
                  last_key, static_cast<std::int64_t>(report->unsigned_entries)});
  }
  for (const auto& notice : report->notices) invocation.err() << "note: " << base::printable(notice) << '\n';
  if (!bad) {
    const auto unsure = options.key ? why_unsure(*report, audit.checkpoint_interval_s, invocation) : std::nullopt;
    CLI_TRY(const auto exit, request.events ? verify_events(*reader, invocation) : Outcome<Exit>(Exit::done));
    if (!unsure) return exit;
    invocation.out().flush();
    return std::unexpected(Failure(Exit::degraded, *unsure));
  }
  invocation.out().flush();
  if (wrong_anchor) return std::unexpected(Failure(Exit::integrity, base::printable(*wrong_anchor)));
  return std::unexpected(
      Failure(Exit::integrity, "entry " + std::to_string(report->first_bad->sequence) +
                                   " of the ledger is bad: " + base::printable(report->first_bad->what)));
}

struct ShowOptions {
  std::int64_t from = -1;  // below zero: the last `limit` entries
  std::uint64_t limit = 20;
};

Outcome<Exit> show_ledger(const ShowOptions& options, Invocation& invocation) {
  CLI_TRY(const auto reader, open_ledger(invocation));
  CLI_TRY(const auto size, reader->size());
  const std::uint64_t from = options.from >= 0      ? static_cast<std::uint64_t>(options.from)
                             : size > options.limit ? size - options.limit
                                                    : 0;
  const bool wide = invocation.format() != Format::table;
  const auto writer = invocation.row_writer("-");
  std::vector<OutputColumn> columns = {{"seq"}, {"time", true}, {"actor"}, {"action"}, {"payload"}};
  if (wide) columns.insert(columns.end(), {{"payload_digest"}, {"previous_hash"}, {"entry_hash"}});
  writer->begin(std::move(columns));
  const auto read = reader->read(from, options.limit, [&](const ledger::Entry& entry) {
    Row row = {static_cast<std::int64_t>(entry.sequence), entry.time.ns, entry.actor, entry.action, entry.payload};
    if (wide) {
      for (const auto& digest : {entry.payload_digest, entry.previous_hash, entry.entry_hash}) {
        row.emplace_back(base::to_hex(digest));
      }
    }
    return writer->row(row);
  });
  writer->finish({}, read ? "" : read.error().message);
  if (!read) return std::unexpected(Failure(read.error()));
  return Exit::done;
}

// Whole, or not at all: a proof that was cut is none.
Outcome<Exit> write_out(const std::string& bytes, const std::string& out, Invocation& invocation) {
  if (out.empty() || out == "-") {
    invocation.out() << bytes;
    return Exit::done;
  }
  if (auto written = base::write_file_atomic(out, bytes, 0644); !written) {
    return std::unexpected(Failure(written.error()));
  }
  return Exit::done;
}

struct ProveRequest {
  std::optional<std::uint64_t> sequence, from;
  std::string out;
};

Outcome<Exit> prove(const ProveRequest& request, Invocation& invocation) {
  CLI_TRY(const auto reader, open_ledger(invocation));
  CLI_TRY(const auto proof,
          request.sequence ? reader->prove_entry(*request.sequence) : reader->prove_consistency(*request.from));
  const bool json = invocation.format() == Format::json || invocation.format() == Format::jsonl;
  return write_out(json ? proof.json() : proof.text(), request.out, invocation);
}

Outcome<Exit> export_checkpoint(const std::string& out, Invocation& invocation) {
  CLI_TRY(const auto reader, open_ledger(invocation));
  CLI_TRY(const auto note, reader->checkpoint_covering(1));
  if (!note) return std::unexpected(Failure(Exit::unavailable, "the ledger has no signed checkpoint yet"));
  return write_out(*note, out, invocation);
}

struct OfflineRequest {
  std::string file, against, proof;
  std::vector<std::string> keys;  // of a ledger whose key was rotated more than one
};

std::unexpected<Failure> violated(const std::string& what) {
  return std::unexpected(Failure(Exit::integrity, base::printable(what)));
}

Outcome<SignedCheckpoint> read_anchor(const std::string& path, const std::vector<ledger::PublicKey>& keys,
                                      Invocation& invocation) {
  CLI_TRY(auto kept, read_checkpoints(path, invocation));
  if (!is_signed_by_any(kept.back().note, keys)) {
    return violated(path + ": its last checkpoint is not signed by the key " + ids_of(keys));
  }
  return std::move(kept.back());
}

Result<ledger::Checkpoint> verify_proof(const ledger::Proof& proof, const std::vector<ledger::PublicKey>& keys) {
  Result<ledger::Checkpoint> last = fail(Errc::invalid_input, "no key was given");
  for (const auto& key : keys) {
    last = ledger::verify_proof(proof, key);
    if (last) break;
  }
  return last;
}

Outcome<Exit> verify_proof_file(const OfflineRequest& request, Invocation& invocation) {
  CLI_TRY(const auto keys, read_keys(request.keys));
  CLI_TRY(const auto proof,
          read_named<ledger::Proof>(request.file, ledger::max_proof_bytes,
                                    [](const std::string& bytes) { return ledger::Proof::parse(bytes); }));
  const auto checkpoint = verify_proof(proof, keys);
  if (!checkpoint) return violated(request.file + ": " + checkpoint.error().message);
  const bool inclusion = proof.kind == ledger::Proof::Kind::inclusion;
  if (!request.against.empty()) {
    CLI_TRY(const auto anchor, read_anchor(request.against, keys, invocation));
    if (anchor.checkpoint.origin != checkpoint->origin) return violated(request.against + ": is of another ledger");
    const std::uint64_t shown = inclusion ? checkpoint->size : proof.from;
    const auto& shown_root = inclusion ? checkpoint->root : proof.from_root;
    if (anchor.checkpoint.size != shown) {
      return std::unexpected(Failure(Exit::usage, request.against + ": is of " +
                                                      std::to_string(anchor.checkpoint.size) +
                                                      " entries, and the proof speaks of " + std::to_string(shown)));
    }
    if (anchor.checkpoint.root != shown_root) {
      return violated("the ledger forked: the checkpoint of " + std::to_string(shown) +
                      " entries that was kept has another root than the proof");
    }
  }
  std::vector<OutputColumn> columns = {{"verdict"}, {"origin"}, {"size"}, {"root"}};
  Row row = {std::string("valid"), checkpoint->origin, static_cast<std::int64_t>(checkpoint->size),
             base::to_hex(checkpoint->root)};
  if (inclusion) {
    columns.insert(columns.end(), {{"seq"}, {"time", true}, {"actor"}, {"action"}, {"payload"}});
    row.insert(row.end(),
               {static_cast<std::int64_t>(proof.index), proof.time_ns, proof.actor, proof.action, proof.payload});
  } else {
    columns.insert(columns.end(), {{"from"}, {"from_root"}});
    row.insert(row.end(), {static_cast<std::int64_t>(proof.from), base::to_hex(proof.from_root)});
  }
  write_record(invocation, columns, row);
  return Exit::done;
}

Outcome<Exit> verify_checkpoint_file(const OfflineRequest& request, Invocation& invocation) {
  CLI_TRY(const auto keys, read_keys(request.keys));
  CLI_TRY(const auto all, read_checkpoints(request.file, invocation));
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto& [note, checkpoint] = all[i];
    if (!is_signed_by_any(note, keys)) {
      return violated(request.file + ": the checkpoint of " + std::to_string(checkpoint.size) +
                      " entries is not signed by the key " + ids_of(keys));
    }
    if (i == 0) continue;
    const auto& before = all[i - 1].checkpoint;
    if (before.origin != checkpoint.origin) return violated(request.file + ": holds checkpoints of two ledgers");
    if (checkpoint.size < before.size || (checkpoint.size == before.size && checkpoint.root != before.root)) {
      return violated(request.file + ": after a checkpoint of " + std::to_string(before.size) + " entries one of " +
                      std::to_string(checkpoint.size) + " that contradicts it: the ledger was put back or forked");
    }
  }
  const auto& newest = all.back().checkpoint;
  std::string consistency = "not asked for";
  if (!request.against.empty()) {
    CLI_TRY(const auto anchor, read_anchor(request.against, keys, invocation));
    const auto& old = anchor.checkpoint;
    if (old.origin != newest.origin) return violated(request.against + ": is of another ledger");
    if (newest.size < old.size) {
      return violated("the ledger had " + std::to_string(old.size) + " entries and now shows " +
                      std::to_string(newest.size) + ": it was cut off or put back to an older copy");
    }
    if (newest.size == old.size && newest.root != old.root) {
      return violated("the ledger forked: two checkpoints of " + std::to_string(old.size) + " entries differ");
    }
    consistency = newest.size == old.size ? "proven" : "unknown";
    if (newest.size != old.size && !request.proof.empty()) {
      CLI_TRY(const auto proof,
              read_named<ledger::Proof>(request.proof, ledger::max_proof_bytes,
                                        [](const std::string& bytes) { return ledger::Proof::parse(bytes); }));
      const auto shown = verify_proof(proof, keys);
      if (!shown) return violated(request.proof + ": " + shown.error().message);
      if (proof.kind != ledger::Proof::Kind::consistency || proof.from != old.size || *shown != newest) {
        return std::unexpected(Failure(Exit::usage, request.proof + ": is not a proof from " +
                                                        std::to_string(old.size) + " to " +
                                                        std::to_string(newest.size) + " entries of this ledger"));
      }
      if (proof.from_root != old.root) {
        return violated("the ledger forked: its first " + std::to_string(old.size) +
                        " entries are not those of the checkpoint that was kept");
      }
      consistency = "proven";
    }
  }
  write_record(invocation,
               {{"verdict"}, {"origin"}, {"size"}, {"root"}, {"key"}, {"checkpoints"}, {"goes_on_from_old"}},
               {std::string("valid"), newest.origin, static_cast<std::int64_t>(newest.size), base::to_hex(newest.root),
                ids_of(keys), static_cast<std::int64_t>(all.size()), consistency});
  if (consistency != "unknown") return Exit::done;
  invocation.out().flush();
  return std::unexpected(
      Failure(Exit::degraded, "both are signed, but nothing here shows that the newer goes on from the older",
              {"--proof FILE shows it, made on the host by: daemoneye-cli audit prove --from SIZE --out FILE"}));
}

// The collector makes it, at the agent's asking; done when the new public key is there.
Outcome<Exit> rotate_key(Invocation& invocation) {
  CLI_TRY(const auto* loaded, invocation.loaded());
  const auto path = loaded->settings.audit.key_path + ".pub";
  CLI_TRY(const auto before, read_key(path));
  CLI_TRY(const auto agent, invocation.agent(invocation.deadline()));
  CLI_TRY(const auto asked, agent->call(ipc::RequestKind::rotate_audit_key, "{}", invocation.deadline()));
  static_cast<void>(asked);  // {}
  while (true) {
    CLI_TRY(const auto now, read_key(path));
    if (now != before) {
      write_record(invocation, {{"key"}, {"before"}}, {event::Value(now.text()), event::Value(before.text())});
      return Exit::done;
    }
    if (invocation.deadline().expired() || invocation.interrupted()) {
      return std::unexpected(Failure(Exit::failed, "asked for, but there is no new key within --timeout",
                                     {"daemoneye-cli audit show tells what the collector recorded"}));
    }
    std::this_thread::sleep_for(look_again);
  }
}

void add_verify(CLI::App& audit, Action& chosen) {
  auto* verify = add_verb(audit, "verify", "Check every entry, hash, stored subtree, checkpoint and signature");
  const auto request = std::make_shared<VerifyRequest>();  // shared: the parser fills what the action reads
  verify->add_flag("--events", request->events, "Then hold the event store against it, batch by batch");
  verify->add_option("--key", request->key, "Public key that must have signed it")->type_name("FILE");
  verify->add_option("--against", request->against, "Checkpoints that were kept elsewhere")->type_name("FILE");
  verify->callback([request, &chosen] {
    chosen = [request](Invocation& invocation) { return verify_ledger(*request, invocation); };
  });
}

void add_proofs(CLI::App& audit, Action& chosen) {
  auto* prove_verb = add_verb(audit, "prove", "A proof that anyone can verify: C2SP text, or JSON with --format json");
  const auto request = std::make_shared<ProveRequest>();
  auto* what = prove_verb->add_option_group("what");
  what->add_option("--seq", request->sequence, "That this entry is in the ledger")->type_name("SEQ");
  what->add_option("--from", request->from, "That the ledger goes on from when it had so many entries")
      ->type_name("SIZE");
  what->require_option(1);
  prove_verb->add_option("--out", request->out, "File to write")->type_name("FILE");
  prove_verb->callback(
      [request, &chosen] { chosen = [request](Invocation& invocation) { return prove(*request, invocation); }; });

  auto* checkpoint = add_verb(audit, "checkpoint", "Print the newest signed checkpoint, to be kept elsewhere");
  const auto out = std::make_shared<std::string>();
  checkpoint->add_option("--out", *out, "File to write")->type_name("FILE");
  checkpoint->callback(
      [out, &chosen] { chosen = [out](Invocation& invocation) { return export_checkpoint(*out, invocation); }; });
}

void add_offline(CLI::App& audit, Action& chosen) {
  const auto add = [&](const char* name, const char* help, auto run, bool with_proof) {
    auto* verb = add_verb(audit, name, help);
    const auto request = std::make_shared<OfflineRequest>();
    verb->add_option("file", request->file, "The file")->required()->type_name("FILE");
    verb->add_option("--key", request->keys, "The ledger's public key; after a rotation the others, too")
        ->required()
        ->allow_extra_args(false)
        ->type_name("FILE");
    verb->add_option("--against", request->against, "A checkpoint that was kept")->type_name("FILE");
    if (with_proof) {
      verb->add_option("--proof", request->proof, "Proof that one goes on from the other")->type_name("FILE");
    }
    verb->callback([request, run, &chosen] {
      chosen = [request, run](Invocation& invocation) { return run(*request, invocation); };
    });
  };
  add("verify-proof", "Verify a proof with the public key alone", verify_proof_file, false);
  add("verify-checkpoint", "Verify a checkpoint with the public key alone", verify_checkpoint_file, true);
}

}  // namespace

void add_audit(CLI::App& app, Action& chosen) {
  auto* audit = add_verb(app, "audit", "The audit ledger");
  audit->require_subcommand(1);
  add_verify(*audit, chosen);
  auto* show = add_verb(*audit, "show", "Print entries, the last ones unless told");
  const auto options = std::make_shared<ShowOptions>();
  show->add_option("--from", options->from, "From this sequence number on")->type_name("SEQ")->check(whole_number(0));
  show->add_option("--limit", options->limit, "So many entries")
      ->type_name("N")
      ->check(whole_number(1))
      ->capture_default_str();
  show->callback(
      [options, &chosen] { chosen = [options](Invocation& invocation) { return show_ledger(*options, invocation); }; });
  add_proofs(*audit, chosen);
  add_offline(*audit, chosen);
  add_verb(*audit, "rotate-key", "Have a new signing key made; the old one signs for it")->callback([&chosen] {
    chosen = rotate_key;
  });
}

}  // namespace daemoneye::cli
