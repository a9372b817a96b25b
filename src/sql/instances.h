// Which exit events are rows of `processes`. An instance is one row: the live process, or else its newest exit event
// within the run's history. Most have one exit only; an import, or an exit that was first taken for missed, can give
// more.
#pragma once

#include <string_view>
#include <vector>

#include "store/reader.h"

namespace daemoneye::sql {

class Runtime;
struct Step;

class Instances {
 public:
  explicit Instances(Runtime& runtime) : runtime_(runtime) {}
  void forget() {
    looked_up_ = 0;
    compared_ = false;
    hidden_.clear();
  }
  // Whether the exit event is the row of its process.
  Result<bool> is_row(std::string_view process_key, event::EventId exit_event, Step& step);

 private:
  Result<void> compare_all(Step& step);
  Result<bool> compare_part(std::size_t part, std::size_t parts, Step& step);

  Runtime& runtime_;
  std::size_t looked_up_ = 0;
  bool compared_ = false;
  std::vector<event::EventId> hidden_;  // exit events that are no rows, once all are compared
};

}  // namespace daemoneye::sql
