#include "ledger/ledger.h"

#include <unistd.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/json_depth.h"
#include "db/sole_writer.h"
#include "ledger/ledger_state.h"

namespace daemoneye::ledger {

using Json = nlohmann::json;

namespace {

constexpr std::uint64_t largest_sql_integer = std::numeric_limits<std::int64_t>::max();

std::unexpected<Error> too_long(std::size_t bytes) {
  return fail(Errc::limit_exceeded,
              "ledger: payload of " + std::to_string(bytes) + " bytes, at most " + std::to_string(max_payload_bytes));
}

// Keys sorted, no blanks: one text for equal objects.
Result<std::string> canonical_object(const std::string& payload) {
  if (payload.size() > max_payload_bytes) return too_long(payload.size());
  if (is_canonical_json(payload)) return payload;
  // Parser and printer follow each level on the stack.
  if (base::json_nests_deeper_than(payload, max_payload_depth)) {
    return fail(Errc::invalid_input, "ledger: the payload nests deeper than " + std::to_string(max_payload_depth));
  }
  const auto json = Json::parse(payload, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return fail(Errc::invalid_input, "ledger: the payload is not a JSON object");
  auto text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > max_payload_bytes) return too_long(text.size());
  return text;
}

Result<void> check_name(std::string_view what, const std::string& name, std::size_t max_bytes) {
  if (!name.empty() && name.size() <= max_bytes && name.find('\0') == std::string::npos) return {};
  return fail(Errc::invalid_input, "ledger: " + std::string(what) + " of " + std::to_string(name.size()) +
                                       " bytes, wanted 1 to " + std::to_string(max_bytes) + " without NUL");
}

}  // namespace

Ledger::Ledger(std::unique_ptr<State> state) : state_(std::move(state)) {}
Ledger::~Ledger() = default;

Result<std::unique_ptr<Ledger>> Ledger::open(const Options& options) {
  const db::SoleWriter sole_writer;  // by the lock that Files has
  auto state = std::make_unique<State>();
  state->options = options;
  DE_TRY(auto files, Files::claim(options));
  state->files.emplace(std::move(files));
  std::uint64_t number = state->files->segments() - 1;
  DE_TRY(auto torn, state->files->keep_torn_tail(segment_path(options.path, number)));
  if (number > 0) {
    // A segment that was made and never begun goes on being one that is not there.
    DE_TRY(const bool begun, state->is_begun(number));
    if (!begun) {
      DE_TRY(torn, state->files->keep_torn_tail(segment_path(options.path, --number)));
    }
  }
  DE_CHECK(state->open_segment(number));
  DE_CHECK(state->load());
  DE_CHECK(state->recover(torn));
  DE_CHECK(state->check_signed_past());
  DE_CHECK(state->open_key());
  state->copy = CheckpointCopy(options.checkpoint_copy);
  DE_CHECK(state->database->execute("PRAGMA busy_timeout=" + std::to_string(busy_timeout_ms)));
  return std::unique_ptr<Ledger>(new Ledger(std::move(state)));
}

Result<std::uint64_t> Ledger::append(const std::string& actor, const std::string& action, const std::string& payload) {
  const NewEntry entry{actor, action, payload};
  return append({&entry, 1});
}

Result<std::uint64_t> Ledger::append(std::span<const NewEntry> entries) {
  const std::uint64_t first = state_->tip.tree.size();
  if (entries.empty()) return first;
  std::vector<std::string> payloads;
  payloads.reserve(entries.size());
  for (const auto& entry : entries) {
    DE_CHECK(check_name("actor", entry.actor, max_actor_bytes));
    DE_CHECK(check_name("action", entry.action, max_action_bytes));
    DE_TRY(auto canonical, canonical_object(entry.payload));
    payloads.push_back(std::move(canonical));
  }
  const auto appended = state_->commit([&](State::Tip& at) -> Result<void> {
    for (std::size_t i = 0; i < entries.size(); ++i) {
      DE_CHECK(state_->insert(at, entries[i].actor, entries[i].action, std::move(payloads[i])));
    }
    return {};
  });
  DE_CHECK(appended);
  return first;
}

Result<void> Ledger::journal_batches(const std::vector<BatchDigest>& batches) {
  if (batches.empty()) return {};
  if (state_->seal_error) return std::unexpected(*state_->seal_error);
  event::Epoch epoch = state_->batch_epoch;
  std::uint64_t highest = state_->highest_batch;
  for (const auto& batch : batches) {
    if (batch.epoch != epoch) highest = 0;
    epoch = batch.epoch;
    // A number that comes again would be a second batch under the name of one that is already proven.
    if (batch.sequence <= highest || batch.sequence > largest_sql_integer) {
      return fail(Errc::invalid_input, "ledger: batch " + std::to_string(batch.sequence) + " after batch " +
                                           std::to_string(highest) + " of the same epoch");
    }
    highest = batch.sequence;
  }
  DE_CHECK(state_->journal->append(batches, state_->head.generation));
  state_->unsealed.insert(state_->unsealed.end(), batches.begin(), batches.end());
  state_->batch_epoch = epoch;
  state_->highest_batch = highest;
  return {};
}

Result<void> Ledger::seal_batches(std::optional<std::uint64_t> acknowledged) {
  if (state_->unsealed.empty()) {
    // A batch that waits for the ledger to take roots again is not among them.
    if (state_->seal_error) {
      auto again = state_->commit([](State::Tip&) -> Result<void> { return {}; });
      if (!again) return again;
      state_->seal_error.reset();
    }
    return {};
  }
  ++state_->head.generation;
  auto sealed = state_->commit(
      [&](State::Tip& at) { return state_->insert_ranges(at, state_->unsealed, /*recovered=*/false, acknowledged); });
  if (!sealed) {
    --state_->head.generation;
    state_->seal_error = sealed.error();
    return sealed;
  }
  state_->seal_error.reset();
  state_->unsealed.clear();
  state_->journal->begin_anew();
  return {};
}

Result<void> Ledger::checkpoint() {
  if (!state_->key) return {};
  state_->checkpoint_tried = base::SteadyClock::now();
  state_->checkpoint_tried_wall = base::wall_now();
  const std::uint64_t size = state_->tip.tree.size();
  // The record of the last checkpoint alone is nothing new.
  if (size == 0 || (state_->checkpointed > 0 && size <= state_->checkpointed + 1)) return {};
  std::string note;
  std::uint64_t signed_size = 0;
  auto made = state_->commit([&](State::Tip& at) {
    signed_size = at.tree.size();
    return state_->insert_checkpoint(at, {&*state_->key}, note);
  });
  if (!made) {
    state_->checkpoint_problem = made.error().message;
    return made;
  }
  state_->hand_on(note, signed_size);
  return {};
}

void Ledger::set_checkpoints(std::chrono::milliseconds interval, std::uint64_t entries) {
  state_->options.checkpoint_interval = interval;
  state_->options.checkpoint_entries = entries;
}

Result<void> Ledger::checkpoint_when_due() {
  const std::uint64_t since = state_->tip.tree.size() - std::min(state_->tip.tree.size(), state_->checkpointed);
  // A machine that slept wakes with entries that are older than the steady clock knows.
  const bool late = base::SteadyClock::now() - state_->checkpoint_tried >= state_->options.checkpoint_interval ||
                    base::wall_now().ns - state_->checkpoint_tried_wall.ns >=
                        std::chrono::nanoseconds(state_->options.checkpoint_interval).count();
  return late || since >= state_->options.checkpoint_entries ? checkpoint() : Result<void>();
}

Result<std::string> Ledger::rotate_key() {
  if (!state_->key) return fail(Errc::unavailable, "the ledger has no key: audit.key_path is not set");
  auto& state = *state_;
  const auto next_path = next_key_path(state.options.key_path);
  // A rotation whose last step failed: the key in force lies in the place of the next one only.
  DE_TRY(const auto on_disk, read_key(state.options.key_path));
  if (!on_disk || on_disk->public_key() != state.key->public_key()) {
    DE_CHECK(write_key(state.options.key_path, *state.key));
  }
  DE_TRY(auto made, PrivateKey::generate(state.start.origin));
  DE_CHECK(write_key(next_path, made));
  const auto before = state.head.key;
  std::string note;
  std::uint64_t signed_size = 0;
  auto recorded = state.commit([&](State::Tip& at) -> Result<void> {
    DE_CHECK(state.record_key(at, made.public_key(), "rotated"));
    signed_size = at.tree.size();
    return state.insert_checkpoint(at, {&*state.key, &made}, note);
  });
  if (!recorded) {
    state.head.key = before;
    return std::unexpected(recorded.error());
  }
  state.hand_on(note, signed_size);
  state.key = std::move(made);
  // When this fails the next start finds the new key where it lies.
  DE_CHECK(write_key(state.options.key_path, *state.key));
  ::unlink(next_path.c_str());
  ::unlink((next_path + ".pub").c_str());
  return state.key->public_key().text();
}

Result<void> Ledger::close() {
  if (state_->closed) return {};
  DE_CHECK(seal_batches());
  DE_CHECK(checkpoint());
  state_->head.running = false;
  if (auto ended = state_->commit([](State::Tip&) -> Result<void> { return {}; }); !ended) {
    state_->head.running = true;
    return ended;
  }
  state_->closed = true;
  return {};
}

std::uint64_t Ledger::size() const { return state_->tip.tree.size(); }
std::optional<Entry> Ledger::last() const {
  auto last = state_->tip.last;
  if (last) last->payload_digest = digest_of(last->payload);
  return last;
}

Ledger::Status Ledger::status() const {
  return {.segments = state_->start.number + 1,
          .checkpointed = state_->checkpointed,
          .checkpoint_time = state_->checkpoint_time,
          .key_id = state_->key ? state_->key->public_key().id() : "",
          .copy_problem = state_->copy.problem(),
          .checkpoint_problem = state_->checkpoint_problem};
}

}  // namespace daemoneye::ledger
