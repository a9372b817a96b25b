// For tests of snapshots against the running kernel.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "sensor/linux/bpf_options.h"
#include "sensor/linux/kernel_test.h"
#include "sensor/linux/procfs_reader.h"

namespace daemoneye::sensor {

using Processes = std::map<event::Pid, RawProcess>;

inline Processes scan(Snapshot& snapshot, Depth depth = Depth::full) {
  Processes found;
  const auto result = snapshot.scan(depth, [&](const RawProcess& process) {
    EXPECT_FALSE(found.contains(process.pid)) << "twice: " << process.pid;
    found[process.pid] = process;
  });
  EXPECT_TRUE(result) << result.error().message;
  if (result) {
    EXPECT_EQ(result->processes, found.size());
    EXPECT_EQ(result->errors, 0U);
  }
  return found;
}

// Fixture: the snapshot by iterator.
class SnapshotTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto opened = open_bpf_snapshot(options_);
    if (!opened) {
      std::printf("not run: %s\n", opened.error().message.c_str());
      GTEST_SKIP() << opened.error().message;
    }
    snapshot_ = std::move(*opened);
  }
  BpfOptions options_;
  std::unique_ptr<Snapshot> snapshot_;
};

// A child that has executed this and come to rest.
class Sleeper : public Child {
 public:
  explicit Sleeper(const std::string& path = "/bin/sleep", std::vector<std::string> arguments = {"sleep", "1000"},
                   event::ProcessStatus at_rest = event::ProcessStatus::sleeping)
      : Sleeper(path, arguments, arguments, at_rest) {}
  // `finally`: its arguments after it has executed something else by itself.
  Sleeper(const std::string& path, std::vector<std::string> arguments, std::vector<std::string> finally,
          event::ProcessStatus at_rest = event::ProcessStatus::sleeping)
      : Child([=] { return execute(path, arguments); }) {
    const auto bytes = joined(finally);
    const auto deadline = Deadline::after(kPatience);
    for (;;) {
      const auto seen = read_process("/proc", pid());
      if (seen && seen->arguments == bytes.substr(0, kMaxArguments) && seen->status == at_rest) return;
      if (deadline.expired()) std::abort();
      std::this_thread::yield();
    }
  }
};

// A shell that takes any arguments and stops itself.
class Stopped : public Sleeper {
 public:
  explicit Stopped(const std::vector<std::string>& more)
      : Sleeper("/bin/sh", with(more), event::ProcessStatus::stopped) {}
  static std::vector<std::string> with(const std::vector<std::string>& more) {
    std::vector<std::string> all = {"sh", "-c", "kill -STOP $$; exit"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
};

}  // namespace daemoneye::sensor
