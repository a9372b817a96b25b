// The columns of a batch of the tail, laid out as those of a block.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "event/batch.h"
#include "event/columns.h"
#include "store/column_view.h"

namespace daemoneye::store {

class TailColumns {
 public:
  // `events` must outlive the columns.
  TailColumns(const std::vector<event::ProcessEvent>& events, event::EventId first_event)
      : events_(events), first_event_(first_event) {}

  [[nodiscard]] IntegerColumn integers(event::Column column);
  [[nodiscard]] RealColumn reals(event::Column column);
  [[nodiscard]] TextColumn texts(event::Column column);
  [[nodiscard]] std::string_view text(event::Column column, std::uint32_t entry);

 private:
  struct Held {
    std::vector<std::int64_t> integers;
    std::vector<double> reals;
    std::vector<std::uint8_t> present;
    std::vector<std::uint32_t> entries;
    std::vector<std::string> texts;
  };
  const Held& held(event::Column column);

  const std::vector<event::ProcessEvent>& events_;
  event::EventId first_event_;
  std::array<std::unique_ptr<Held>, event::column_count> columns_;
};

}  // namespace daemoneye::store
