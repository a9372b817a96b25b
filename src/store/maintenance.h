// Work that an operator asks for on a store that is in use: compact, analyze, purge. The writer does it between
// batches, in steps so small that none of them waits for long.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/time.h"
#include "db/statement_cache.h"
#include "store/ingest.h"
#include "store/maintenance_state.h"
#include "store/retention.h"

namespace daemoneye::store {

// One request, from its first step to its last. Belongs to the writer's thread.
class Maintenance {
 public:
  Maintenance(db::StatementCache& statements, Ingest& ingest, Retention& retention, const MaintenanceRequest& request,
              std::uint64_t id);
  // False when it is done. After an error it is over.
  Result<bool> step();
  [[nodiscard]] const MaintenanceState& state() const { return state_; }

 private:
  Result<bool> compact();
  Result<bool> purge();
  Result<void> begin_purge();
  Result<void> finish();
  Result<std::int64_t> integer(std::string_view sql, std::optional<std::int64_t> parameter = {});

  db::StatementCache& statements_;
  Ingest& ingest_;
  Retention& retention_;
  MaintenanceRequest request_;
  MaintenanceState state_;
  bool begun_ = false;
  unsigned steps_ = 0;
  std::uint64_t file_before_ = 0;
  Retention::Removed removed_before_;
  std::uint64_t damages_before_ = 0;
  // Of a purge: nothing that came after the request.
  event::EventId last_event_ = 0;
  Timestamp rows_before_;
};

}  // namespace daemoneye::store
