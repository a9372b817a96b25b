// A store in a folder of its own, and calls that wait for their commit. For tests of this room and those above it.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <future>
#include <stdexcept>
#include <string>
#include <vector>

#include "store/reader.h"
#include "store/writer.h"

namespace daemoneye::store::testing {

class TempFolder {
 public:
  TempFolder() {
    char name[] = "/tmp/daemoneye_store_XXXXXX";
    if (mkdtemp(name) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = name;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string file() const { return path_ + "/state/events.redb"; }
  [[nodiscard]] StoreOptions options() const {
    StoreOptions options;
    options.path = file();
    options.retention_days = 0;  // the events of tests lie at any time
    return options;
  }

 private:
  std::string path_;
};

inline event::Batch make_batch(std::uint64_t sequence, std::vector<event::ProcessEvent> events,
                               std::uint8_t epoch = 1) {
  event::Batch batch;
  batch.id.source = "procmond";
  batch.id.epoch.fill(epoch);
  batch.id.sequence = sequence;
  batch.events = std::move(events);
  return batch;
}

inline event::ProcessKey key_of(event::Pid pid, std::uint64_t start_ticks = 100) {
  event::ProcessKey key;
  key.boot.fill(7);
  key.pid = pid;
  key.start_ticks = start_ticks;
  return key;
}

inline event::ProcessEvent make_event(event::EventKind kind, event::Pid pid, std::int64_t time_ns,
                                      const std::string& name = "sleep") {
  event::ProcessEvent event;
  event.kind = kind;
  event.time.ns = time_ns;
  event.process.key = key_of(pid);
  event.process.name = name;
  event.process.executable_path = "/usr/bin/" + name;
  event.process.collection_time.ns = time_ns;
  if (kind == event::EventKind::exit) event.process.status = event::ProcessStatus::exited;
  return event;
}

inline Result<Commit> commit(Writer& writer, const event::Batch& batch, std::string scan = {}) {
  DE_TRY(auto canonical, event::encode_batch(batch));
  const auto digest = event::batch_digest(canonical);
  std::promise<Result<Commit>> done;
  writer.commit_batch(batch.id, std::move(canonical), digest, std::move(scan),
                      [&](Result<Commit> result) { done.set_value(std::move(result)); });
  return done.get_future().get();
}

inline Result<std::vector<RaiseResult>> raise(Writer& writer, std::vector<Writer::Raise> alerts,
                                              std::optional<event::EventId> watermark = {}) {
  std::promise<Result<std::vector<RaiseResult>>> done;
  writer.raise(std::move(alerts), watermark, [&](auto result) { done.set_value(std::move(result)); });
  return done.get_future().get();
}

inline std::vector<event::EventId> ids(Reader& reader, const ScanRequest& request = {}) {
  auto scan = reader.scan(request);
  if (!scan) throw std::runtime_error(scan.error().message);
  std::vector<event::EventId> found;
  while (true) {
    const auto row = (*scan)->next();
    if (!row) throw std::runtime_error(row.error().message);
    if (!*row) return found;
    found.push_back((*scan)->event_id());
  }
}

}  // namespace daemoneye::store::testing
