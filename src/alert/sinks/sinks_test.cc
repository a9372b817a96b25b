#include "alert/sinks/sinks.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <csignal>
#include <nlohmann/json.hpp>
#include <thread>

#include "alert/alert_test_util.h"
#include "base/unique_fd.h"

namespace daemoneye::alert::testing {
namespace {

using namespace std::chrono_literals;

config::SinkSettings file_settings(const std::string& path) {
  config::SinkSettings settings;
  settings.type = settings.name = "file";
  settings.options["path"] = path;
  return settings;
}

TEST(FileSink, AppendsOneJsonObjectALineWithModeOf0640) {
  TempFolder folder;
  const auto path = folder.file("alerts.jsonl");
  auto sink = make_sink(file_settings(path));
  ASSERT_TRUE(sink) << sink.error().message;
  ASSERT_TRUE((*sink)->send(make_alert("one"), {}));
  ASSERT_TRUE((*sink)->send(make_alert("two"), {}));
  std::istringstream lines(read_all(path));
  std::string line;
  std::vector<std::string> ids;
  while (std::getline(lines, line)) ids.push_back(nlohmann::json::parse(line).at("alert_id").get<std::string>());
  EXPECT_EQ(ids, (std::vector<std::string>{"one", "two"}));
  struct stat state{};
  ASSERT_EQ(::stat(path.c_str(), &state), 0);
  EXPECT_EQ(state.st_mode & 0777, 0640U);
}

TEST(FileSink, WaitsForTheDiskWhenAskedTo) {
  TempFolder folder;
  auto settings = file_settings(folder.file("alerts.jsonl"));
  settings.options["fsync"] = "true";
  auto sink = make_sink(settings);
  ASSERT_TRUE(sink) << sink.error().message;
  ASSERT_TRUE((*sink)->send(make_alert("one"), {}));
  ASSERT_TRUE((*sink)->send(make_alert("two"), {}));
  const auto text = read_all(folder.file("alerts.jsonl"));
  EXPECT_EQ(std::ranges::count(text, '\n'), 2);
}

TEST(FileSink, EndsAHalfLineThatAKilledProgramLeft) {
  TempFolder folder;
  const auto path = folder.file("alerts.jsonl");
  std::ofstream(path) << "{\"half";
  auto sink = make_sink(file_settings(path));
  ASSERT_TRUE(sink);
  ASSERT_TRUE((*sink)->send(make_alert("one"), {}));
  const auto text = read_all(path);
  EXPECT_TRUE(text.starts_with("{\"half\n{"));
}

TEST(FileSink, ReopensWhenAskedAndWhenTheFileIsGone) {
  TempFolder folder;
  const auto path = folder.file("alerts.jsonl");
  auto sink = make_sink(file_settings(path));
  ASSERT_TRUE(sink);
  ASSERT_TRUE((*sink)->send(make_alert("one"), {}));
  ASSERT_EQ(::rename(path.c_str(), (path + ".1").c_str()), 0);
  (*sink)->reopen();
  ASSERT_TRUE((*sink)->send(make_alert("two"), {}));
  EXPECT_NE(read_all(path).find("\"two\""), std::string::npos);
  ASSERT_EQ(::unlink(path.c_str()), 0);
  ASSERT_TRUE((*sink)->send(make_alert("three"), {}));
  EXPECT_NE(read_all(path).find("\"three\""), std::string::npos);
}

// The size limit stands for a full disk: a part is written, then no more.
TEST(FileSink, AWriteThatFailsHalfwayLeavesNoHalfLineAndIsTemporary) {
  TempFolder folder;
  const auto path = folder.file("alerts.jsonl");
  auto sink = make_sink(file_settings(path));
  ASSERT_TRUE(sink);
  ASSERT_TRUE((*sink)->send(make_alert("one"), {}));
  const auto whole = read_all(path);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  auto* const handler = ::signal(SIGXFSZ, SIG_IGN);
  rlimit limit = before;
  limit.rlim_cur = whole.size() + 100;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  const auto result = (*sink)->send(make_alert("two"), {});
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, handler);
  ASSERT_FALSE(result);
  EXPECT_FALSE(result.error().permanent);
  EXPECT_EQ(read_all(path), whole);
  EXPECT_FALSE((*sink)->health_check().healthy);
  ASSERT_TRUE((*sink)->send(make_alert("two"), {}));
  EXPECT_TRUE((*sink)->health_check().healthy);
}

TEST(FileSink, RefusesWhatIsNoRegularFileWithoutHanging) {
  TempFolder folder;
  const auto path = folder.file("fifo");
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const auto sink = make_sink(file_settings(path));
  ASSERT_FALSE(sink);
  EXPECT_NE(sink.error().message.find("not a regular file"), std::string::npos);
  EXPECT_FALSE(make_sink(file_settings(folder.file("missing/alerts"))));
}

TEST(FileSink, RotatesBySizeAndKeepsSoManyFiles) {
  TempFolder folder;
  const auto path = folder.file("alerts.jsonl");
  auto settings = file_settings(path);
  settings.options["rotate_bytes"] = std::to_string(store::to_json(make_alert("alert-0")).size() * 2 + 2);
  settings.options["keep"] = "2";
  auto sink = make_sink(settings);
  ASSERT_TRUE(sink) << sink.error().message;
  for (int i = 0; i < 9; ++i) ASSERT_TRUE((*sink)->send(make_alert("alert-" + std::to_string(i)), {}));
  const auto ids = [&](const std::string& file) {
    std::istringstream lines(read_all(file));
    std::string line, found;
    while (std::getline(lines, line)) found += nlohmann::json::parse(line).at("alert_id").get<std::string>().back();
    return found;
  };
  EXPECT_EQ(ids(path), "8");
  EXPECT_EQ(ids(path + ".1"), "67");
  EXPECT_EQ(ids(path + ".2"), "45");
  EXPECT_FALSE(std::filesystem::exists(path + ".3"));
  struct stat state{};
  ASSERT_EQ(::stat(path.c_str(), &state), 0);
  EXPECT_EQ(state.st_mode & 0777, 0640U);
}

TEST(FileSink, RotatesByAge) {
  TempFolder folder;
  const auto path = folder.file("alerts.jsonl");
  auto settings = file_settings(path);
  settings.options["rotate_s"] = "1";
  auto sink = make_sink(settings);
  ASSERT_TRUE(sink) << sink.error().message;
  int sent = 0;
  EXPECT_TRUE(eventually([&] {
    EXPECT_TRUE((*sink)->send(make_alert("alert"), {}));
    ++sent;
    std::this_thread::sleep_for(20ms);
    return std::filesystem::exists(path + ".1");
  }));
  EXPECT_GT(sent, 1);
  EXPECT_EQ(std::ranges::count(read_all(path), '\n'), 1);
}

TEST(FileSink, ARotationThatFailsDeliversNothingAndLosesNothing) {
  TempFolder folder;
  const auto path = folder.file("alerts.jsonl");
  auto settings = file_settings(path);
  settings.options["rotate_bytes"] = settings.options["keep"] = "1";
  auto sink = make_sink(settings);
  ASSERT_TRUE(sink);
  ASSERT_TRUE((*sink)->send(make_alert("one"), {}));
  const auto before = read_all(path);
  ASSERT_TRUE(std::filesystem::create_directory(path + ".1"));  // in the way of the rotated file
  const auto refused = (*sink)->send(make_alert("two"), {});
  ASSERT_FALSE(refused);
  EXPECT_FALSE(refused.error().permanent);
  EXPECT_EQ(read_all(path), before);
  std::filesystem::remove(path + ".1");
  EXPECT_TRUE((*sink)->send(make_alert("two"), {}));
}

struct Pipe {
  Pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) std::abort();
    read.reset(ends[0]);
    write.reset(ends[1]);
  }
  UniqueFd read, write;
};

std::unique_ptr<AlertSink> stream_sink(int fd, const std::string& format, std::chrono::milliseconds timeout = 10s) {
  config::SinkSettings settings;
  settings.type = settings.name = "stdout";
  settings.format = format;
  return *make_stream_sink(settings, fd, timeout);
}

TEST(StreamSink, WritesWholeLinesFromManyThreads) {
  Pipe pipe;
  const auto sink = stream_sink(pipe.write.get(), "auto");
  std::string received;
  std::thread reader([&] {
    char buffer[4096];
    for (ssize_t size = 0; (size = ::read(pipe.read.get(), buffer, sizeof buffer)) > 0;) {
      received.append(buffer, static_cast<std::size_t>(size));
    }
  });
  std::vector<std::thread> senders;
  for (int sender = 0; sender < 4; ++sender) {
    senders.emplace_back([&, sender] {
      auto alert = make_alert("sender-" + std::to_string(sender));
      alert.command_line = std::string(9000, 'x');  // more than a pipe takes at once
      for (int i = 0; i < 25; ++i) EXPECT_TRUE(sink->send(alert, {}));
    });
  }
  for (auto& sender : senders) sender.join();
  pipe.write.reset();
  reader.join();
  std::istringstream lines(received);
  std::string line;
  int count = 0;
  for (; std::getline(lines, line); ++count) EXPECT_FALSE(nlohmann::json::parse(line, nullptr, false).is_discarded());
  EXPECT_EQ(count, 100);
}

TEST(StreamSink, AReaderThatIsGoneIsATemporaryErrorAndNotTheEndOfTheProgram) {
  Pipe pipe;
  pipe.read.reset();
  const auto sink = stream_sink(pipe.write.get(), "json");
  const auto result = sink->send(make_alert("x"), {});
  ASSERT_FALSE(result);
  EXPECT_FALSE(result.error().permanent);
  EXPECT_FALSE(sink->health_check().healthy);
}

TEST(StreamSink, AReaderThatSleepsIsATimeOutAndTheNextAlertStartsOnItsOwnLine) {
  Pipe pipe;
  const auto sink = stream_sink(pipe.write.get(), "json", 50ms);
  auto big = make_alert("big");
  big.command_line = std::string(200'000, 'x');
  ASSERT_FALSE(sink->send(big, {}));
  // The reader wakes up: what was written of the big one, then a whole line.
  std::string received;
  std::thread reader([&] {
    char buffer[65536];
    for (ssize_t size = 0; (size = ::read(pipe.read.get(), buffer, sizeof buffer)) > 0;) {
      received.append(buffer, static_cast<std::size_t>(size));
    }
  });
  EXPECT_TRUE(eventually([&] { return sink->send(make_alert("small"), {}).has_value(); }));
  pipe.write.reset();
  reader.join();
  const auto second = received.find('\n');
  ASSERT_NE(second, std::string::npos);
  EXPECT_TRUE(received.substr(second + 1).starts_with("{"));
}

TEST(StreamSink, EndsWithTheStopWhileNobodyReads) {
  Pipe pipe;
  const auto sink = stream_sink(pipe.write.get(), "json", 1h);
  auto big = make_alert("big");
  big.command_line = std::string(200'000, 'x');
  std::stop_source stop;
  std::thread sender([&] { EXPECT_FALSE(sink->send(big, stop.get_token())); });
  stop.request_stop();
  sender.join();
}

TEST(StreamSink, WhoeverWaitsForItsTurnEndsWithTheStopAndItsTimeOut) {
  Pipe pipe;
  const auto sink = stream_sink(pipe.write.get(), "json", 1h);
  auto big = make_alert("big");
  big.command_line = std::string(200'000, 'x');
  std::stop_source stop, stop_first;
  std::thread first([&] { EXPECT_FALSE(sink->send(big, stop_first.get_token())); });
  // The pipe is full: it is in the middle of it.
  EXPECT_TRUE(eventually([&] {
    int size = 0;
    return ::ioctl(pipe.read.get(), FIONREAD, &size) == 0 && size >= PIPE_BUF;
  }));
  std::thread second([&] { EXPECT_FALSE(sink->send(make_alert("small"), stop.get_token())); });
  stop.request_stop();
  second.join();
  stop_first.request_stop();
  first.join();
}

// A terminal's two ends.
struct Terminal {
  Terminal() {
    outside.reset(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (!outside || ::grantpt(outside.get()) != 0 || ::unlockpt(outside.get()) != 0) std::abort();
    char name[128];
    if (::ptsname_r(outside.get(), name, sizeof name) != 0) std::abort();
    inside.reset(::open(name, O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (!inside) std::abort();
  }
  UniqueFd outside, inside;
};

std::string shown_on_a_terminal(const std::string& format) {
  const Terminal terminal;
  EXPECT_TRUE(stream_sink(terminal.inside.get(), format)->send(make_alert("x"), {}));
  char buffer[8192];
  const auto size = ::read(terminal.outside.get(), buffer, sizeof buffer);
  return {buffer, static_cast<std::size_t>(std::max<ssize_t>(size, 0))};
}

TEST(StreamSink, IsTextInColourOnATerminalUnlessToldOtherwise) {
  ::unsetenv("NO_COLOR");
  ::setenv("TERM", "xterm", 1);
  EXPECT_NE(shown_on_a_terminal("auto").find("\x1b[31mHIGH"), std::string::npos);
  EXPECT_TRUE(shown_on_a_terminal("json").starts_with("{"));
  ::setenv("NO_COLOR", "1", 1);
  EXPECT_EQ(shown_on_a_terminal("auto").find('\x1b'), std::string::npos);
  EXPECT_NE(shown_on_a_terminal("auto").find("HIGH"), std::string::npos);
  ::unsetenv("NO_COLOR");
  ::setenv("TERM", "dumb", 1);
  EXPECT_EQ(shown_on_a_terminal("auto").find('\x1b'), std::string::npos);
}

TEST(SinkTypes, RefuseWhatIsNotThereAndNameWhatIs) {
  config::SinkSettings settings;
  settings.name = settings.type = "pigeon";
  const auto type = make_sink(settings);
  ASSERT_FALSE(type);
  EXPECT_EQ(type.error().message, "sink pigeon: type 'pigeon' is not one of stdout, file, syslog, webhook, email");
  settings.name = settings.type = "stdout";
  EXPECT_TRUE(make_sink(settings));
  settings.format = "xml";
  const auto format = make_sink(settings);
  ASSERT_FALSE(format);
  EXPECT_EQ(format.error().message, "sink stdout: format 'xml' is not one of json, ecs, ocsf, cef, text, template");
}

TEST(ReferencePage, IsTheCheckedInOne) {
  register_sink_types();
  const std::string path = std::string(DAEMONEYE_SOURCE_DIR) + "/docs/configuration.md";
  if (std::getenv("DAEMONEYE_WRITE_REFERENCE") != nullptr) std::ofstream(path) << config::reference_page();
  EXPECT_EQ(read_all(path), config::reference_page()) << "run DAEMONEYE_WRITE_REFERENCE=1 alert_test to write it again";
}

}  // namespace
}  // namespace daemoneye::alert::testing
