// `db check`: reads all of a store and names each place that is damaged.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"

namespace daemoneye::store {

struct Damage {
  std::string part;  // file | pages | catalogue | block | tail | live | alerts
  std::optional<std::int64_t> block;
  std::string column;  // or `header`, `batches`; empty: not of one column
  // Of a block: the batch's place in it, from 1. Of the tail: its number.
  std::optional<std::int64_t> batch;
  std::optional<Timestamp> from, to;  // the events concerned
  std::string what;
};

struct CheckOptions {
  bool quick = false;  // checksums and counts; neither indexes nor digests
  Deadline deadline = Deadline::never();
  std::function<void(std::uint64_t done, std::uint64_t total)> progress = {};  // blocks
};

struct CheckReport {
  std::uint32_t schema_version = 0;
  bool page_checksums = false;
  std::uint64_t blocks = 0, chunks = 0, batches = 0, events = 0, tail_batches = 0, live_processes = 0;
  std::uint64_t damages = 0;
  std::vector<Damage> damage;   // the first max_damages_told of them
  std::string not_looked_at{};  // what the deadline left out; empty: all was looked at
};
inline constexpr std::size_t max_damages_told = 1000;

// Works on a copy and beside a running agent: a snapshot a block, so that the WAL is not held for long. An error is
// what kept it from looking at all (not_found, permission_denied, another kind of file or a newer version); a file so
// damaged that SQLite does not open it is a report with that damage.
Result<CheckReport> check_store(const std::string& path, const CheckOptions& options);

}  // namespace daemoneye::store
