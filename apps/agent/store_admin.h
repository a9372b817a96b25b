// What operators ask of the store, and what health says of it.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>

#include "config/settings.h"
#include "observe/health.h"
#include "store/reader_pool.h"
#include "store/writer.h"

namespace daemoneye::apps {

// Opens the store. A file that is too damaged to be used is an error (corrupt), unless `database.on_damage` says to set
// it aside: then a new one is begun, and `set_aside` is where the old one lies now.
Result<std::unique_ptr<store::Writer>> open_store(const store::StoreOptions& options, bool may_set_aside,
                                                  std::string& set_aside);

// Begins what the request's payload asks for. A purge is told to `audit` when nothing but that is in its way; false:
// it cannot be kept, and nothing begins.
Result<std::string> maintain_store(store::Writer& writer, uid_t by, const std::string& payload,
                                   const std::function<bool(const std::string& action, const std::string&)>& audit);
std::string maintenance_json(const store::MaintenanceState& state);

// What retention and purges have left.
struct OldestLeft {
  bool anything_removed = false;
  std::optional<Timestamp> time;        // of the oldest event
  std::optional<event::BatchId> batch;  // the collector's oldest
};
OldestLeft oldest_left(store::Reader& reader);

// What the writer says of itself; and, when `probing`, the store is opened as any reader does, read from, and committed
// to: each with its time.
observe::ComponentHealth store_health(store::Writer& writer, store::ReaderPool& readers,
                                      const config::Settings& settings, bool probing);

}  // namespace daemoneye::apps
