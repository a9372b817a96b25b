// A batch of the tail: its bytes, the events as views of them, and whole events only of the rows that are wanted. To
// make a thousand events of their own costs more than to look at all of a block.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "event/completeness.h"
#include "event/event_view.h"
#include "store/scan_conditions.h"

namespace daemoneye::store {

class TailBatch {
 public:
  // corrupt when the bytes are no batch. What opens can be decoded.
  static Result<std::shared_ptr<TailBatch>> open(std::string bytes);
  TailBatch(const TailBatch&) = delete;  // the views look into it
  TailBatch& operator=(const TailBatch&) = delete;

  [[nodiscard]] std::size_t size() const { return batch_.events.size(); }
  [[nodiscard]] std::size_t bytes() const { return bytes_.size(); }
  // Sets `rows` to those of [first, last] in the time range that meet every condition, ascending. `first_event` is the
  // event id of row 0.
  Result<void> select(const ScanConditions& conditions, const event::TimeRange& time, event::EventId first_event,
                      std::uint32_t first, std::uint32_t last, std::vector<std::uint32_t>& rows);
  [[nodiscard]] Result<event::ProcessEvent> event(std::size_t row) const;
  // All of them; kept.
  Result<const std::vector<event::ProcessEvent>*> events();

 private:
  explicit TailBatch(std::string bytes) : bytes_(std::move(bytes)) {}

  std::string bytes_;
  event::BatchView batch_;
  std::optional<std::vector<event::ProcessEvent>> events_;
};

}  // namespace daemoneye::store
