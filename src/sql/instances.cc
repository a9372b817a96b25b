#include "sql/instances.h"

#include <algorithm>
#include <functional>

#include "db/account.h"
#include "sql/runtime.h"

namespace daemoneye::sql {
namespace {

// Each look-up asks the filters of all blocks: so many are cheaper than to read the keys of all exits once.
constexpr std::size_t max_lookups = 32;
constexpr std::size_t max_parts = 4096;

// Hashes of keys. Of 64 bits: that two of some millions are equal by chance does not happen.
class SeenKeys {
 public:
  SeenKeys() = default;
  SeenKeys(const SeenKeys&) = delete;
  SeenKeys& operator=(const SeenKeys&) = delete;
  ~SeenKeys() { charge(-bytes(slots_.size())); }

  enum class Outcome : std::uint8_t { added, known, full };
  Outcome add(std::uint64_t hash) {
    hash |= hash == 0 ? 1 : 0;  // 0: a free slot
    if ((count_ + 1) * 3 > slots_.size() * 2 && !grow()) return Outcome::full;
    const auto slot = place(hash);
    if (slots_[slot] == hash) return Outcome::known;
    slots_[slot] = hash;
    ++count_;
    return Outcome::added;
  }

 private:
  static constexpr std::size_t least_slots = std::size_t{1} << 16, most_slots = std::size_t{1} << 21;  // 16 MiB
  static std::int64_t bytes(std::size_t slots) { return static_cast<std::int64_t>(slots * sizeof(std::uint64_t)); }
  static bool charge(std::int64_t bytes) {
    auto* const account = db::Account::current();
    return account == nullptr || account->take(bytes);
  }
  std::size_t place(std::uint64_t hash) const {
    std::size_t slot = hash & (slots_.size() - 1);
    while (slots_[slot] != 0 && slots_[slot] != hash) slot = (slot + 1) & (slots_.size() - 1);
    return slot;
  }
  bool grow() {
    const std::size_t wanted = std::max(least_slots, slots_.size() * 2);
    const auto* const account = db::Account::current();
    const bool room = account == nullptr || wanted == least_slots || !account->has_taken_half();
    if (wanted > most_slots || !room || !charge(bytes(wanted))) return false;
    auto old = std::exchange(slots_, std::vector<std::uint64_t>(wanted));
    for (const auto hash : old) {
      if (hash != 0) slots_[place(hash)] = hash;
    }
    charge(-bytes(old.size()));
    return true;
  }

  std::vector<std::uint64_t> slots_;
  std::size_t count_ = 0;
};

std::uint64_t hash_of(std::string_view key) { return std::hash<std::string_view>()(key); }

}  // namespace

Result<bool> Instances::is_row(std::string_view process_key, event::EventId exit_event, Step& step) {
  if (!compared_ && looked_up_ < max_lookups) {
    const auto key = event::parse_process_key(process_key);
    if (!key) return true;
    ++looked_up_;
    DE_TRY(const auto found, runtime_.find_instance(*key, step));
    return !found || found->exit_id == exit_event;
  }
  if (!compared_) DE_CHECK(compare_all(step));
  return !std::ranges::binary_search(hidden_, exit_event);
}

Result<void> Instances::compare_all(Step& step) {
  // In parts of the keys, by their hash, as many as there is memory for.
  std::size_t parts = 1;
  for (std::size_t part = 0; part < parts; ++part) {
    DE_TRY(const bool fits, compare_part(part, parts, step));
    if (fits) continue;
    if (parts == max_parts) return fail(Errc::limit_exceeded, "the ended processes do not fit in the memory for them");
    parts *= 2;
    part = static_cast<std::size_t>(-1);
    hidden_.clear();
  }
  std::ranges::sort(hidden_);
  compared_ = true;
  return {};
}

// False when its keys do not fit.
Result<bool> Instances::compare_part(std::size_t part, std::size_t parts, Step& step) {
  constexpr int part_shift = 40;  // away from the bits that choose the slot
  const auto is_of_part = [&](std::uint64_t hash) { return (hash >> part_shift) % parts == part; };
  SeenKeys seen;
  bool fits = true;
  auto& reader = *runtime_.reader();
  DE_CHECK(reader.live({}, {}, [&](const event::ProcessEvent& event) {
    const auto hash = hash_of(event::to_string(event.process.key));
    fits = !is_of_part(hash) || seen.add(hash) != SeenKeys::Outcome::full;
    return fits && !runtime_.should_stop();
  }));
  store::ScanRequest request;
  request.time = runtime_.clamp({});
  request.conditions.push_back({event::Column::kind, predicate::Operator::equal, {std::string("exit")}, false});
  request.columns.set(static_cast<std::size_t>(event::Column::process_key));
  request.newest_first = true;
  DE_TRY(auto scan, reader.scan(request, [this] { return runtime_.should_stop(); }));
  while (fits) {
    DE_TRY(const bool more, scan->next());
    if (!more) break;
    const auto value = scan->value(event::Column::process_key);
    const auto* const key = std::get_if<std::string_view>(&value);
    const auto hash = key == nullptr ? 0 : hash_of(*key);
    if (key == nullptr || !is_of_part(hash)) continue;
    const auto outcome = seen.add(hash);
    fits = outcome != SeenKeys::Outcome::full;
    if (outcome == SeenKeys::Outcome::known) hidden_.push_back(scan->event_id());
  }
  if (auto stopped = runtime_.stopped()) return std::unexpected(*std::move(stopped));
  auto stats = scan->stats();
  stats.rows = 0;  // none of them is a row of the answer
  runtime_.add(stats, step);
  return fits;
}

}  // namespace daemoneye::sql
