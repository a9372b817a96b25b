// bundle: rules, exceptions and a fragment of configuration as one signed file, made and put in force.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <istream>
#include <nlohmann/json.hpp>
#include <ostream>

#include "base/file.h"
#include "base/text.h"
#include "bundle/plan.h"
#include "cli/alerts.h"
#include "cli/verbs.h"
#include "detect/rule.h"
#include "ledger/keys.h"

namespace daemoneye::cli {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr mode_t public_mode = 0644;
constexpr std::size_t max_told = 60, max_told_bytes = 120;  // changes in one entry of the ledger
constexpr std::size_t max_reason_bytes = 300;               // of a refusal there
// For the agent to answer, however much of the verb's time is gone: what it has recorded is not to be undone for want
// of a second.
constexpr std::chrono::seconds recording_patience{10};

// What a user names and what is not there is the user's slip, not a service that is away.
Failure of_named_file(const Error& error) {
  return error.code == Errc::not_found || error.code == Errc::limit_exceeded ? Failure(Exit::usage, error.message)
                                                                             : Failure(error);
}

Outcome<std::string> read_named(const std::string& path, std::size_t max_bytes) {
  auto text = base::read_file(path, max_bytes);
  if (!text) return std::unexpected(of_named_file(text.error()));
  return std::move(*text);
}

// --- create ---

struct CreateOptions {
  std::string out, id, version, key, expires, description, configuration;
  std::vector<std::string> rules, exceptions;
};

Outcome<bool> add_file(const std::string& path, std::vector<bundle::File>& files) {
  const auto name = fs::path(path).filename().string();
  const bool exceptions = name.ends_with(bundle::exceptions_suffix);
  CLI_TRY(auto content, read_named(path, detect::max_rule_file_bytes));
  files.push_back({(exceptions ? "exceptions/" : "rules/") + name, std::move(content)});
  return true;
}

Outcome<std::vector<bundle::File>> gather(const CreateOptions& options) {
  std::vector<bundle::File> files;
  auto paths = options.rules;
  paths.insert(paths.end(), options.exceptions.begin(), options.exceptions.end());
  for (const auto& path : paths) {
    std::error_code error;
    if (!fs::is_directory(path, error)) {
      CLI_TRY([[maybe_unused]] const bool added, add_file(path, files));
      continue;
    }
    for (fs::directory_iterator entry(path, error), end; !error && entry != end; entry.increment(error)) {
      const auto name = entry->path().filename().string();
      if (!name.ends_with(".yaml") || name.starts_with('.')) continue;
      CLI_TRY([[maybe_unused]] const bool added, add_file(entry->path().string(), files));
    }
    if (error) return std::unexpected(Failure(Exit::usage, path + ": " + error.message()));
  }
  if (!options.configuration.empty()) {
    CLI_TRY(auto content, read_named(options.configuration, bundle::max_bytes_of(bundle::FileKind::configuration)));
    files.push_back({std::string(bundle::configuration_path), std::move(content)});
  }
  return files;
}

Outcome<std::optional<Timestamp>> end_of_validity(const std::string& text, Timestamp now) {
  if (text.empty()) return std::nullopt;
  std::optional<Timestamp> moment;
  if (const auto span = base::parse_duration(text)) {
    moment = Timestamp{now.ns + span->count()};
  } else if (const auto time = base::parse_iso(text)) {
    moment = *time;
  }
  if (!moment || *moment <= now) {
    return std::unexpected(Failure(Exit::usage, "--expires: found '" + base::printable(text.substr(0, 64)) +
                                                    "'; allowed: a span from now (90d) or a later moment"));
  }
  return moment;
}

Outcome<Exit> create(const CreateOptions& options, Invocation& invocation) {
  bundle::Manifest about;
  about.id = options.id;
  about.description = options.description;
  about.created = base::wall_now();
  CLI_TRY(about.version, bundle::Version::parse(options.version));
  CLI_TRY(about.expires, end_of_validity(options.expires, about.created));
  const auto key = ledger::read_key(options.key);
  if (!key) return std::unexpected(Failure(key.error()));
  if (!*key) {
    return std::unexpected(Failure(Exit::usage, options.key + ": there is no key",
                                   {"daemoneye-cli bundle key NAME --out FILE makes one"}));
  }
  CLI_TRY(const auto files, gather(options));
  // What could not be imported anywhere is not signed.
  std::vector<std::string> problems;
  for (const auto& file : files) {
    if (!file.path.starts_with("rules/")) continue;
    if (const auto rule = detect::compile_rule(file.content, file.path); !rule) {
      for (const auto& problem : rule.error()) problems.push_back(detect::to_string(problem));
    }
  }
  if (!problems.empty())
    return std::unexpected(Failure(Exit::usage, "nothing was made: the rules have errors", problems));
  CLI_TRY(const auto bytes, bundle::make(about, files, **key));
  CLI_TRY(const auto made, bundle::open(bytes, {(*key)->public_key()}, about.created));
  if (auto written = base::write_file_atomic(options.out, bytes, public_mode); !written) {
    return std::unexpected(Failure(written.error()));
  }
  write_record(invocation, {{"file"}, {"id"}, {"version"}, {"files"}, {"bytes"}, {"digest"}, {"signed_by"}},
               {options.out, about.id, about.version.text(), static_cast<std::int64_t>(files.size()),
                static_cast<std::int64_t>(bytes.size()), base::to_hex(made.digest), made.signer});
  return Exit::done;
}

Outcome<Exit> make_key(const std::string& name, const std::string& out, Invocation& invocation) {
  if (::access(out.c_str(), F_OK) == 0) {
    return std::unexpected(Failure(Exit::usage, out + ": is there already, and a key is not written over"));
  }
  if (ledger::key_name_of(name) != name) {
    return std::unexpected(Failure(Exit::usage, "a key's name: allowed: letters, digits, '.', '-', '_' and '/'"));
  }
  CLI_TRY(const auto key, ledger::PrivateKey::generate(name));
  if (auto written = ledger::write_key(out, key); !written) return std::unexpected(Failure(written.error()));
  write_record(invocation, {{"private_key"}, {"public_key"}, {"key"}}, {out, out + ".pub", key.public_key().text()});
  return Exit::done;
}

// --- verify ---

// What is known of a file that is to be put in force, for the record of its refusal.
struct Attempted {
  std::string digest;       // of the file; empty: it could not be read
  std::string id, version;  // once the signature is believed
};

Outcome<bundle::Bundle> open_bundle(const std::string& file, const std::string& key_file, Invocation& invocation,
                                    Attempted* attempted = nullptr) {
  std::vector<ledger::PublicKey> keys;
  std::string folder;
  if (!key_file.empty()) {
    auto key = bundle::read_public_key(key_file);
    if (!key) return std::unexpected(of_named_file(key.error()));
    keys.push_back(std::move(*key));
  } else {
    CLI_TRY(const auto* loaded, invocation.loaded());
    folder = loaded->settings.bundle.trusted_keys;
    CLI_TRY(auto trusted, bundle::read_trusted_keys(folder));
    for (const auto& notice : trusted.notices) invocation.err() << "notice: " << base::printable(notice) << '\n';
    keys = std::move(trusted.keys);
  }
  CLI_TRY(const auto bytes, read_named(file, bundle::max_bundle_bytes));
  if (attempted != nullptr) attempted->digest = base::to_hex(base::sha256(bytes));
  auto opened = bundle::open(bytes, keys, base::wall_now());
  if (opened && attempted != nullptr) {
    attempted->id = opened->manifest.id;
    attempted->version = opened->manifest.version.text();
  }
  if (opened) return std::move(*opened);
  Failure failure(opened.error());
  failure.message = file + ": " + failure.message;
  if (failure.exit == Exit::integrity && keys.empty()) {
    failure.details.push_back("no key is trusted: put the signer's public key into " + folder + " as NAME.pub");
  }
  return std::unexpected(std::move(failure));
}

Outcome<Exit> verify(const std::string& file, const std::string& key, Invocation& invocation) {
  CLI_TRY(const auto opened, open_bundle(file, key, invocation));
  const auto& about = opened.manifest;
  json files = json::array();
  std::string listed;
  for (const auto& each : about.files) {
    files.push_back(each.path);
    listed += (listed.empty() ? "" : ", ") + each.path;
  }
  write_record(invocation,
               {{"verdict"},
                {"id"},
                {"version"},
                {"description"},
                {"created", true},
                {"expires", true},
                {"signed_by"},
                {"digest"},
                {"files"}},
               {std::string("valid"), about.id, about.version.text(),
                about.description.empty() ? event::Value() : event::Value(about.description), about.created.ns,
                about.expires ? event::Value(about.expires->ns) : event::Value(), opened.signer,
                base::to_hex(opened.digest), invocation.format() == Format::table ? listed : files.dump()});
  return Exit::done;
}

// --- import ---

struct ImportOptions {
  std::string file, on_conflict;
  bool yes = false, dry_run = false;
};

// What to do with one conflict: as was decided for the same thing before, as the flag says, or as somebody at the
// terminal says.
Outcome<bool> decide(const bundle::Change& change, const bundle::Plan& plan, const ImportOptions& options,
                     Invocation& invocation) {
  if (options.on_conflict == "take") return true;
  if (options.on_conflict == "keep") return false;
  if (plan.before) {
    const auto known = plan.before->choices.find(change.label());
    if (known != plan.before->choices.end() && known->second.own == change.own) return known->second.take;
  }
  invocation.out().flush();
  invocation.err() << base::printable(change.label() + ": " + change.conflict)
                   << "\n  keep this machine's, or take the bundle's? [keep/take] " << std::flush;
  std::string answer;
  while (invocation.read_answer(answer)) {
    if (answer == "keep" || answer == "k") return false;
    if (answer == "take" || answer == "t") return true;
    invocation.err() << "  keep or take? " << std::flush;
  }
  invocation.err() << '\n';
  return std::unexpected(Failure(Exit::failed, "nothing was changed: no decision on " + change.label()));
}

Outcome<std::map<std::string, bundle::Choice>> decide_all(bundle::Plan& plan, const ImportOptions& options,
                                                          Invocation& invocation) {
  std::map<std::string, bundle::Choice> choices;
  std::vector<std::string> open;
  for (auto& change : plan.changes) {
    if (change.conflict.empty()) continue;
    const bool known = plan.before && plan.before->choices.contains(change.label()) &&
                       plan.before->choices.at(change.label()).own == change.own;
    if (options.on_conflict.empty() && !known && (options.dry_run || !invocation.io().in_terminal)) {
      open.push_back(change.label() + ": " + change.conflict);
      continue;
    }
    CLI_TRY(const bool take, decide(change, plan, options, invocation));
    choices[change.label()] = {take, change.own};
    if (!take) change.change = "kept";
  }
  if (open.empty()) return choices;
  return std::unexpected(Failure(Exit::usage,
                                 "nothing was changed: the bundle contradicts this machine, and nobody is there to ask "
                                 "(--on-conflict keep|take decides)",
                                 open));
}

// An older one, another one: not without asking.
Outcome<bool> ask_about_version(const bundle::Plan& plan, const ImportOptions& options, Invocation& invocation) {
  if (!plan.before || options.dry_run) return true;
  const auto& before = *plan.before;
  const auto& now = plan.in_force;
  const auto names = [](const bundle::InForce& one) { return one.id + ' ' + one.version.text(); };
  std::string question;
  if (before.id != now.id) {
    question = "The bundle in force is " + names(before) + ": put " + names(now) + " in its place?";
  } else if (now.version.is_before(before.version)) {
    question = names(now) + " is older than " + names(before) + ", which is in force: go back to it?";
  } else if (now.version.is_same_as(before.version) && now.digest != before.digest) {
    question = "Another bundle " + names(before) + " is in force: put this one in its place?";
  }
  if (question.empty()) return true;
  return invocation.confirmed(base::printable(question), options.yes);
}

void show_changes(const bundle::Plan& plan, const std::map<std::string, bundle::Choice>& choices,
                  const ImportOptions& options, bool changed, Invocation& invocation) {
  const auto writer = invocation.row_writer();
  writer->begin({{"kind"}, {"name"}, {"change"}, {"conflict"}, {"choice"}, {"note"}});
  const auto text = [](const std::string& value) { return value.empty() ? event::Value() : event::Value(value); };
  for (const auto& change : plan.changes) {
    const auto choice = choices.find(change.label());
    writer->row(
        {change.kind, change.name, change.change, text(change.conflict),
         choice == choices.end() ? event::Value() : event::Value(std::string(choice->second.take ? "take" : "keep")),
         text(change.note)});
  }
  writer->finish({}, "");
  if (invocation.format() != Format::table) return;
  invocation.out() << plan.in_force.id << ' ' << plan.in_force.version.text()
                   << (options.dry_run ? " would be put in force; nothing was changed\n"
                       : changed       ? " is in force\n"
                                       : " was in force already\n");
  if (!plan.values.empty() && changed) {
    invocation.out() << "of its configuration the live keys count now, the others from the next start on\n";
  }
}

json told_to_the_ledger(const bundle::Plan& plan, const std::map<std::string, bundle::Choice>& choices,
                        std::size_t files) {
  json told = {{"id", plan.in_force.id},
               {"version", plan.in_force.version.text()},
               {"digest", plan.in_force.digest},
               {"signer", plan.in_force.signer},
               {"files", files}};
  if (plan.before)
    told["replaces"] = {
        {"id", plan.before->id}, {"version", plan.before->version.text()}, {"digest", plan.before->digest}};
  json changes = json::array();
  std::size_t more = 0;
  for (const auto& change : plan.changes) {
    if (change.change == "same") continue;
    if (changes.size() >= max_told) {
      ++more;
      continue;
    }
    json one = {{"what", change.label().substr(0, max_told_bytes)}, {"change", change.change}};
    if (const auto choice = choices.find(change.label()); choice != choices.end()) {
      one["on_conflict"] = choice->second.take ? "take" : "keep";
    }
    changes.push_back(std::move(one));
  }
  told["changes"] = std::move(changes);
  if (more > 0) told["more_changes"] = more;
  return told;
}

// Nothing: no agent runs. What it refuses is refused before anything is changed.
Outcome<std::unique_ptr<ipc::Client>> agent_that_records(Invocation& invocation) {
  CLI_TRY(const auto* loaded, invocation.loaded());
  auto agent = ipc::Client::connect(loaded->settings.ipc.socket_path, invocation.deadline());
  // One that is there and does not listen to us is not one that is away.
  if (!agent && agent.error().code != Errc::unavailable) {
    return std::unexpected(Failure(Exit::unavailable, "nothing was changed: " + agent.error().message));
  }
  if (!agent) {
    invocation.err() << "notice: " << base::printable(agent.error().message)
                     << "; it records the bundle, and takes it up, when it starts\n";
    return nullptr;
  }
  CLI_TRY([[maybe_unused]] const auto may,
          ask_agent(**agent, ipc::RequestKind::bundle, {{"do", "may"}}, invocation.deadline()));
  return std::move(*agent);
}

// Told on the same line when it can be, else on a new one. Why not, if not.
std::string tell_agent(std::unique_ptr<ipc::Client>& agent, const json& what, Invocation& invocation) {
  invocation.leave_at_least(recording_patience);
  if (agent && ask_agent(*agent, ipc::RequestKind::bundle, what, invocation.deadline())) return {};
  auto again = invocation.agent(invocation.deadline());
  if (!again) return again.error().message;
  agent = std::move(*again);
  const auto told = ask_agent(*agent, ipc::RequestKind::bundle, what, invocation.deadline());
  return told ? std::string() : told.error().message;
}

// In force, but not on record: back to what was before. What the agent may have recorded all the same it takes back,
// too.
Failure undo(Failure failure, bundle::Place& place, const bundle::InForce& bundle, std::unique_ptr<ipc::Client>& agent,
             Invocation& invocation) {
  if (auto undone = place.take_back(); !undone) {
    failure.message = "the bundle is in force, but: " + failure.message;
    failure.details.push_back(undone.error().message);
    return failure;
  }
  const auto why_not = tell_agent(agent,
                                  {{"do", "taken_back"},
                                   {"bundle", {{"id", bundle.id}, {"version", bundle.version.text()}}},
                                   {"why", failure.message.substr(0, max_reason_bytes)}},
                                  invocation);
  failure.message = "nothing was changed: " + failure.message;
  if (!why_not.empty()) {
    failure.details.push_back(
        "the agent could not be told that the bundle was taken back, and records what is in force "
        "when it next looks: " +
        why_not);
  }
  return failure;
}

Outcome<Exit> put_in_force(const ImportOptions& options, Attempted& attempted, Invocation& invocation) {
  CLI_TRY(const auto* loaded, invocation.loaded());
  CLI_TRY(const auto opened, open_bundle(options.file, "", invocation, &attempted));
  const auto& path = loaded->settings.bundle.path;
  std::unique_ptr<ipc::Client> agent;
  std::optional<bundle::Place> place;
  if (!options.dry_run) {
    CLI_TRY(agent, agent_that_records(invocation));
    CLI_TRY(place, bundle::Place::claim(path));
  }
  CLI_TRY(auto before, bundle::read_in_force(path));
  const bundle::Site site{.sources = invocation.sources(), .settings = loaded->settings};
  const auto refuse = [&](const bundle::Problems& problems) {
    std::vector<std::string> details;
    for (const auto& problem : problems) details.push_back(base::printable(problem));
    return std::unexpected(Failure(
        Exit::usage, options.file + ": nothing was changed: what is in the bundle is not good", std::move(details)));
  };
  auto plan = bundle::make_plan(opened, std::move(before), site);
  if (!plan) return refuse(plan.error());
  CLI_TRY([[maybe_unused]] const bool asked, ask_about_version(*plan, options, invocation));
  std::map<std::string, bundle::Choice> choices;
  auto decided = decide_all(*plan, options, invocation);
  if (decided) {
    choices = std::move(*decided);
  } else if (!options.dry_run) {
    return std::unexpected(std::move(decided).error());
  }
  const auto files = bundle::files_of(opened, *plan, choices);
  if (const auto problems = bundle::check_together(files, site); !problems.empty()) return refuse(problems);
  plan->in_force.choices = choices;
  plan->in_force.imported = base::wall_now();
  if (options.dry_run) {
    show_changes(*plan, choices, options, false, invocation);
    return Exit::done;
  }
  if (agent) invocation.leave_at_least(recording_patience);
  if (auto put = place->put(plan->in_force, files); !put) return std::unexpected(Failure(put.error()));
  if (agent) {
    const auto told = ask_agent(*agent, ipc::RequestKind::bundle,
                                {{"do", "imported"}, {"bundle", told_to_the_ledger(*plan, choices, files.size())}},
                                invocation.deadline());
    attempted.digest.clear();  // whatever came of it, the agent tells
    if (!told) return std::unexpected(undo(told.error(), *place, plan->in_force, agent, invocation));
  }
  place->forget_before();
  show_changes(*plan, choices, options, true, invocation);
  return Exit::done;
}

// What is refused is recorded as well, by who runs here: it may be the first sign of an attack.
Outcome<Exit> import_bundle(const ImportOptions& options, Invocation& invocation) {
  Attempted attempted;
  auto done = put_in_force(options, attempted, invocation);
  const bool refused = !done && !options.dry_run && !attempted.digest.empty() &&
                       done.error().exit != Exit::unavailable;  // that the agent does not listen it knows itself
  if (!refused) return done;
  json told = {{"file", options.file.substr(0, max_reason_bytes)},
               {"file_digest", attempted.digest},
               {"reason", done.error().message.substr(0, max_reason_bytes)}};
  if (!attempted.id.empty()) told.update({{"id", attempted.id}, {"version", attempted.version}});
  std::unique_ptr<ipc::Client> agent;
  const auto why_not = tell_agent(agent, {{"do", "refused"}, {"bundle", std::move(told)}}, invocation);
  if (!why_not.empty()) {
    invocation.err() << "notice: the ledger has nothing of this refusal: " << base::printable(why_not) << '\n';
  }
  return done;
}

void add_create(CLI::App& bundle, Action& chosen) {
  auto* create_verb = add_verb(bundle, "create", "Make and sign a bundle of rules, exceptions and configuration");
  const auto options = std::make_shared<CreateOptions>();  // shared: the parser fills what the action reads
  create_verb->add_option("FILE", options->out, "The bundle to write")->required();
  create_verb->add_option("--id", options->id, "Its name, the same in all its versions")->required()->type_name("ID");
  create_verb->add_option("--version", options->version, "One to four numbers: 1.4.2")
      ->required()
      ->type_name("VERSION");
  create_verb->add_option("--key", options->key, "Private key that signs it (bundle key makes one)")
      ->required()
      ->type_name("FILE");
  create_verb->add_option("--rules", options->rules, "A rule file, or a folder of them; may be repeated")
      ->type_name("PATH")
      ->allow_extra_args(false);
  create_verb->add_option("--exceptions", options->exceptions, "A file *.exceptions.yaml; may be repeated")
      ->type_name("PATH")
      ->allow_extra_args(false);
  create_verb->add_option("--configuration", options->configuration, "A fragment of configuration")->type_name("FILE");
  create_verb->add_option("--expires", options->expires, "Not taken from then on: 90d, or ISO 8601")->type_name("TIME");
  create_verb->add_option("--description", options->description, "What it is for")->type_name("TEXT");
  create_verb->callback(
      [options, &chosen] { chosen = [options](Invocation& invocation) { return create(*options, invocation); }; });

  auto* key = add_verb(bundle, "key", "Make a key that signs bundles: FILE (private) and FILE.pub");
  const auto names = std::make_shared<std::pair<std::string, std::string>>();
  key->add_option("NAME", names->first, "Whose key it is, as in signatures")->required();
  key->add_option("--out", names->second, "File of the private key")->required()->type_name("FILE");
  key->callback([names, &chosen] {
    chosen = [names](Invocation& invocation) { return make_key(names->first, names->second, invocation); };
  });
}

}  // namespace

void add_bundle(CLI::App& app, Action& chosen) {
  auto* bundle = add_verb(app, "bundle", "Signed bundles of rules, exceptions and configuration");
  bundle->require_subcommand(1);
  add_create(*bundle, chosen);

  auto* verify_verb = add_verb(*bundle, "verify", "Check a bundle's signature and every file in it; changes nothing");
  const auto names = std::make_shared<std::pair<std::string, std::string>>();
  verify_verb->add_option("FILE", names->first, "The bundle")->required();
  verify_verb->add_option("--key", names->second, "Trust this public key alone")->type_name("FILE");
  verify_verb->callback([names, &chosen] {
    chosen = [names](Invocation& invocation) { return verify(names->first, names->second, invocation); };
  });

  auto* import_verb = add_verb(*bundle, "import", "Put a bundle in force: all of it or nothing");
  const auto options = std::make_shared<ImportOptions>();
  import_verb->add_option("FILE", options->file, "The bundle")->required();
  import_verb->add_option("--on-conflict", options->on_conflict, "keep this machine's own, or take the bundle's")
      ->type_name("keep|take")
      ->check(CLI::IsMember({"keep", "take"}));
  import_verb->add_flag("--yes", options->yes, "Go back to an older version, or to another bundle, without asking");
  import_verb->add_flag("--dry-run", options->dry_run, "Show what would change, and change nothing");
  import_verb->callback([options, &chosen] {
    chosen = [options](Invocation& invocation) { return import_bundle(*options, invocation); };
  });
}

}  // namespace daemoneye::cli
