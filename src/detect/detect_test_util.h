// A store to commit events to, rule folders to write, and an engine over both.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "detect/engine.h"
#include "event/batch.h"
#include "store/reader.h"
#include "store/writer.h"

namespace daemoneye::detect::testing {

class TempFolder {
 public:
  TempFolder() {
    std::string name = "/tmp/daemoneye-detect-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() { std::filesystem::remove_all(path_); }
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline bool eventually(const std::function<bool()>& condition,
                       std::chrono::milliseconds within = std::chrono::seconds(20)) {
  const auto deadline = Deadline::after(within);
  while (!condition()) {
    if (deadline.expired()) return false;
    std::this_thread::yield();
  }
  return true;
}

inline constexpr std::int64_t test_epoch_ns = 1'800'000'000'000'000'000;

// A process of its own, started by nobody.
inline event::ProcessEvent make_exec(event::Pid pid, const std::string& name, std::vector<std::string> arguments = {}) {
  event::ProcessEvent event;
  event.time.ns = test_epoch_ns + static_cast<std::int64_t>(pid) * 1'000'000;
  event.kind = event::EventKind::exec;
  event.source = event::EventSource::ebpf;
  event.process.key.boot.fill(7);
  event.process.key.pid = pid;
  event.process.key.start_ticks = pid;
  event.process.name = name;
  event.process.executable_path = "/usr/bin/" + name;
  if (arguments.empty()) arguments = {name};
  event.process.arguments = event::Arguments::from_list(arguments);
  event.process.start_time = event.time;
  event.process.collection_time = event.time;
  return event;
}

class Rig {
 public:
  Rig() {
    std::filesystem::create_directory(rules_folder());
    options.store_path = folder.file("events.redb");
    options.rule_paths = {rules_folder()};
    options.host = "testhost";
    options.agent_version = "0.1.0";
    options.dedup_window = std::chrono::milliseconds(0);
    options.rule_alerts_a_minute = 0;
    options.schedule_least_grace = std::chrono::nanoseconds(0);
    options.schedule_pause = std::chrono::milliseconds(2);
    options.route = [](const store::Alert&) { return std::vector<store::Route>{"sink"}; };
    store::StoreOptions store_options;
    store_options.path = options.store_path;
    auto opened = store::Writer::open(store_options);
    if (!opened) {
      ADD_FAILURE() << opened.error().message;
      std::abort();
    }
    writer = *std::move(opened);
  }
  ~Rig() {
    engine.reset();
    writer->close(Deadline::after(std::chrono::seconds(10)));
  }
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;

  [[nodiscard]] std::string rules_folder() const { return folder.file("rules"); }
  // Appears whole, as an editor or a package would put it.
  void write_rule(const std::string& id, const std::string& sql, const std::string& more = "") const {
    write_file(id + ".yaml", "id: " + id + "\ntitle: " + id + "\nseverity: high\nsql: |\n  " + sql + "\n" + more);
  }
  void write_file(const std::string& name, const std::string& text) const {
    const auto path = rules_folder() + "/" + name;
    std::ofstream(path + ".new") << text;
    std::filesystem::rename(path + ".new", path);
  }

  void start() {
    // As after a real end of the program: what was raised is committed, or never was.
    ASSERT_TRUE(writer->drain(Deadline::after(std::chrono::seconds(20))));
    auto started = Engine::start(options, *writer);
    ASSERT_TRUE(started) << started.error().message;
    engine = *std::move(started);
  }
  void stop() {
    engine->stop(Deadline::after(std::chrono::seconds(20)));
    engine.reset();
  }

  // Commits one batch; tells the engine when there is one.
  store::Commit commit(std::vector<event::ProcessEvent> events, std::vector<event::LiveUpdate> scanned = {}) {
    event::Batch batch;
    batch.id.source = "test";
    batch.id.epoch.fill(9);
    batch.id.sequence = ++sequence_;
    batch.events = std::move(events);
    auto bytes = event::encode_batch(batch);
    if (!bytes) {
      ADD_FAILURE() << bytes.error().message;
      return {};
    }
    std::promise<Result<store::Commit>> done;
    const auto digest = event::batch_digest(*bytes);
    std::string scan;
    if (!scanned.empty()) {
      event::ScanSummary summary;
      summary.scan_id = sequence_;
      summary.time.ns = test_epoch_ns + static_cast<std::int64_t>(sequence_) * 1'000'000'000;
      summary.source = "procfs";
      summary.updates = std::move(scanned);
      scan = event::encode_scan(summary);
      ++scans;
    }
    writer->commit_batch(batch.id, *std::move(bytes), digest, std::move(scan),
                         [&](const Result<store::Commit>& result) {
                           if (result && engine) engine->on_commit(*result);
                           done.set_value(result);
                         });
    auto result = done.get_future().get();
    if (!result) {
      ADD_FAILURE() << result.error().message;
      return {};
    }
    last_event = std::max(last_event, result->last_event);
    return *result;
  }

  // Everything committed was evaluated, and what came of it is committed.
  bool settled() {
    if (!eventually([&] { return engine->state().evaluated_to >= last_event; })) return false;
    return writer->drain(Deadline::after(std::chrono::seconds(20)));
  }

  std::vector<store::Alert> alerts() const {
    auto reader = store::Reader::open(options.store_path);
    if (!reader) {
      ADD_FAILURE() << reader.error().message;
      return {};
    }
    auto found = (*reader)->alerts(100'000);
    if (!found) ADD_FAILURE() << found.error().message;
    return found ? *std::move(found) : std::vector<store::Alert>{};
  }
  // "rule:event" of each alert, sorted: with no dedup window each match is one.
  std::vector<std::string> matches() const {
    std::vector<std::string> out;
    for (const auto& alert : alerts()) {
      for (const auto id : alert.evidence) out.push_back(alert.rule_id + ":" + std::to_string(id));
    }
    std::ranges::sort(out);
    return out;
  }
  Engine::RuleState rule_state(const std::string& id) const {
    for (auto& rule : engine->state().rules) {
      if (rule.rule_id == id) return rule;
    }
    return {};
  }

  TempFolder folder;
  EngineOptions options;
  std::unique_ptr<store::Writer> writer;
  std::unique_ptr<Engine> engine;
  event::EventId last_event = 0;
  std::uint64_t scans = 0;  // committed

 private:
  std::uint64_t sequence_ = 0;
};

}  // namespace daemoneye::detect::testing
