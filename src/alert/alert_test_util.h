// A store in a temporary folder, alerts to raise, sinks that do as they are told.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

#include "alert/delivery.h"
#include "alert/sink.h"
#include "store/alert_changes.h"
#include "store/reader.h"
#include "store/writer.h"

namespace daemoneye::alert::testing {

class TempFolder {
 public:
  TempFolder() {
    std::string name = "/tmp/daemoneye-alert-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() { std::filesystem::remove_all(path_); }
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline std::string read_all(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

inline store::Alert make_alert(const std::string& id, store::Severity severity = store::Severity::high) {
  store::Alert alert;
  alert.alert_id = id;
  alert.time = alert.last_seen = Timestamp{1'800'000'000'000'000'000};
  alert.rule_id = "some-rule";
  alert.severity = severity;
  alert.title = "Something happened";
  alert.description = "It should not.";
  alert.pid = 42;
  alert.name = "bash";
  alert.executable_path = "/usr/bin/bash";
  alert.command_line = "bash -i";
  alert.row_json = R"({"pid":42})";
  alert.process_json =
      R"({"process":{"pid":42},"ancestors":[{"pid":7,"name":"nginx","executable_path":"/usr/sbin/nginx","command_line":"nginx: worker"}]})";
  alert.evidence = {17};
  alert.host = "web1";
  alert.agent_version = "0.1.0";
  alert.dedup_key = id;
  return alert;
}

// Waits for what other threads bring about.
inline bool eventually(const std::function<bool()>& condition,
                       std::chrono::milliseconds within = std::chrono::seconds(20)) {
  const auto deadline = Deadline::after(within);
  while (!condition()) {
    if (deadline.expired()) return false;
    std::this_thread::yield();
  }
  return true;
}

// Remembers what it was sent; `answer` decides about each attempt (default: delivered).
class RecordingSink final : public AlertSink {
 public:
  using Outcome = std::expected<DeliveryResult, DeliveryError>;
  using Answer = std::function<Outcome(const store::Alert&, std::stop_token)>;
  explicit RecordingSink(std::string name, Answer answer = {}) : name_(std::move(name)), answer_(std::move(answer)) {}

  Outcome send(const store::Alert& alert, std::stop_token stop) override {
    {
      std::lock_guard lock(mutex_);
      attempts_.push_back(alert.alert_id);
    }
    return answer_ ? answer_(alert, std::move(stop)) : Outcome(DeliveryResult{});
  }
  HealthStatus health_check() override { return {}; }
  [[nodiscard]] std::string_view name() const override { return name_; }
  [[nodiscard]] std::vector<std::string> attempts() const {
    std::lock_guard lock(mutex_);
    return attempts_;
  }

 private:
  const std::string name_;
  const Answer answer_;
  mutable std::mutex mutex_;
  std::vector<std::string> attempts_;
};

inline RecordingSink::Outcome refused(bool permanent = false) {
  return std::unexpected(DeliveryError{"refused", permanent, permanent ? std::optional<int>(400) : std::nullopt});
}

// Time that stands still until it is moved.
class ManualClock {
 public:
  void advance(std::chrono::nanoseconds by) { ns_ += by.count(); }
  [[nodiscard]] Timestamp now() const { return Timestamp{ns_.load()}; }

 private:
  std::atomic<std::int64_t> ns_{1'800'000'000'000'000'000};
};

// Store + deliverer.
class Rig {
 public:
  Rig() {
    store::StoreOptions options;
    options.path = folder.file("events.redb");
    auto opened = store::Writer::open(options);
    if (!opened)
      ADD_FAILURE() << opened.error().message;
    else
      writer = *std::move(opened);
    settings.max_parallel_deliveries = 8;
    settings.retry = {3, 60'000};
    settings.breaker = {5, 30'000};
    settings.max_age_ms = 86'400'000;
  }
  ~Rig() {
    deliverer.reset();
    if (writer) writer->close(Deadline::after(std::chrono::seconds(10)));
  }
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;

  RecordingSink& add(const std::string& name, RecordingSink::Answer answer = {}) {
    auto sink = std::make_unique<RecordingSink>(name, std::move(answer));
    auto& reference = *sink;
    sinks.push_back(std::move(sink));
    config::SinkSettings one;
    one.type = "test";
    one.name = name;
    settings.sinks.push_back(one);
    return reference;
  }
  void start() {
    Deliverer::Outside outside;
    outside.sinks = std::move(sinks);
    sinks.clear();
    outside.now = [this] { return clock.now(); };
    outside.slow_after = slow_after;
    outside.quick_count = std::chrono::hours(1);
    readers = std::make_unique<store::ReaderPool>(path());
    auto started = Deliverer::start(settings, *readers, *writer, std::move(outside));
    ASSERT_TRUE(started) << started.error().message;
    deliverer = *std::move(started);
  }
  // Commits the alerts with an outbox entry for each sink, in one transaction, and wakes the deliverer.
  void raise(const std::vector<std::string>& ids) {
    std::vector<store::Writer::Raise> raises;
    for (const auto& id : ids) {
      store::Writer::Raise one;
      one.alert = make_alert(id);
      one.alert.time = one.alert.last_seen = clock.now();
      one.sinks = route(settings.sinks, one.alert);
      raises.push_back(std::move(one));
    }
    std::promise<Result<std::vector<store::RaiseResult>>> done;
    writer->raise(std::move(raises), std::nullopt, [&](auto result) { done.set_value(std::move(result)); });
    const auto result = done.get_future().get();
    ASSERT_TRUE(result) << result.error().message;
    if (deliverer) deliverer->wake();
  }
  void change(std::function<Result<void>(db::StatementCache&)> write) {
    std::promise<void> done;
    writer->change(std::move(write), [&](const Result<void>& result) {
      EXPECT_TRUE(result) << result.error().message;
      done.set_value();
    });
    done.get_future().wait();
  }
  void retry_dead_letters(const std::string& sink) {
    std::int64_t after = 0;
    for (bool more = true; more;) {
      std::promise<Result<void>> done;
      writer->change(
          [&](db::StatementCache& statements) -> Result<void> {
            std::uint64_t changed = 0;
            DE_TRY(const auto last,
                   store::retry_dead_letters(statements, {{sink}, {}, {}}, clock.now(), after, changed));
            more = last.has_value();
            if (last) after = *last;
            return {};
          },
          [&](auto result) { done.set_value(std::move(result)); });
      ASSERT_TRUE(done.get_future().get());
    }
    deliverer->wake();
  }
  void advance(std::chrono::nanoseconds by) {
    clock.advance(by);
    deliverer->wake();
  }
  [[nodiscard]] std::string path() const { return folder.file("events.redb"); }
  std::uint64_t waiting(const std::string& sink) const {
    auto reader = store::Reader::open(path());
    return reader ? (*reader)->outbox_depth(sink).value_or(9999) : 9999;
  }
  // (attempt, outcome) of each row of alert_deliveries, in order.
  std::vector<std::pair<std::int64_t, std::string>> deliveries(const std::string& sink) const {
    std::vector<std::pair<std::int64_t, std::string>> rows;
    auto reader = store::Reader::open(path());
    if (!reader) return rows;
    auto select = (*reader)->database().prepare(
        "SELECT attempt, outcome FROM alert_deliveries WHERE sink = ? ORDER BY delivery_id");
    if (!select) {
      ADD_FAILURE() << select.error().message;
      return rows;
    }
    select->bind_text(1, sink);
    while (select->step().value_or(false)) rows.emplace_back(select->integer(0), std::string(select->text(1)));
    return rows;
  }
  Deliverer::SinkState state(const std::string& name) const {
    for (auto& one : deliverer->state()) {
      if (one.name == name) return one;
    }
    return {};
  }

  TempFolder folder;
  ManualClock clock;
  std::chrono::milliseconds slow_after{500};
  config::Settings::Alerting settings;
  std::vector<std::unique_ptr<AlertSink>> sinks;
  std::unique_ptr<store::Writer> writer;
  std::unique_ptr<store::ReaderPool> readers;
  std::unique_ptr<Deliverer> deliverer;
};

}  // namespace daemoneye::alert::testing
