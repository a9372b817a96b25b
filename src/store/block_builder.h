// Turns batches into a block: column by column, as they are committed. One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "event/event_view.h"
#include "store/block_format.h"

namespace daemoneye::store {

struct SealedBlock {
  std::vector<std::pair<std::uint8_t, std::string>> chunks;  // place in the block, uncompressed body
  std::uint32_t events = 0;
  std::vector<BatchEntry> batches;
  std::optional<Timestamp> first_time, last_time;  // smallest and largest; absent without events
};

class BlockBuilder {
 public:
  BlockBuilder();
  ~BlockBuilder();
  // Copies what it needs.
  void add(const BatchEntry& batch, std::span<const event::EventView> events);
  [[nodiscard]] std::size_t events() const;
  [[nodiscard]] std::size_t batches() const;
  // The block of all that was added; the builder is empty afterwards.
  SealedBlock finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace daemoneye::store
