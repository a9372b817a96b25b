// Runs a real supervisor over real programs: this test program itself, executed again as `--supervised NAME MODE
// REPORTS`. The programs tell what happens to them in datagrams; the test waits for those, never for time to pass.
#include "supervise/supervise.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <sstream>

#include "base/file.h"
#include "base/text.h"
#include "base/time.h"
#include "observe/log.h"

namespace daemoneye::supervise {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr auto patience = 30s;  // a bound for a broken test, never reached by a good one

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  return address;
}

// ---- the supervised program ----

class Program {
 public:
  Program(std::string name, std::string mode, const std::string& reports)
      : name_(std::move(name)), mode_(std::move(mode)), reports_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    const auto address = address_of(reports);
    if (::connect(reports_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) ::_exit(70);
  }

  int run() {
    if (mode_.starts_with("exit=")) {
      report("exiting");
      return base::parse_integer<int>(mode_.substr(5)).value_or(76);
    }
    if (mode_.starts_with("crash-until=")) {
      const std::string path = mode_.substr(12);
      const UniqueFd starts(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600));
      struct stat info{};
      if (::fstat(starts.get(), &info) != 0 || !base::write_all(starts.get(), ".")) return 71;
      if (info.st_size < 5) return 1;
    }
    if (mode_.starts_with("lost-source-once=")) {
      const UniqueFd mark(::open(mode_.substr(17).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
      if (mark) return 10;
    }
    auto loop = EventLoop::create();
    if (!loop) return 72;
    loop_ = loop->get();
    const auto signals = loop_->on_signals({SIGTERM, SIGHUP}, [this](int signal) {
      report(signal == SIGHUP ? "reload" : "stop");
      if (signal == SIGTERM && mode_ != "deaf") loop_->stop();
    });
    const auto receiving = receive_sockets(
        *loop_, control_fd, [this](UniqueFd socket) { greet(std::move(socket)); }, [this] { loop_->stop(); });
    if (!signals || !receiving) return 73;
    report("started descriptors=" + open_descriptors() + " session=" + (::getsid(0) == ::getpid() ? "own" : "shared"));
    loop_->run();
    report("ending");
    return mode_ == "bad-end" ? 9 : 0;
  }

 private:
  void report(const std::string& what) {
    const std::string text = name_ + " " + std::to_string(::getpid()) + " " + what;
    if (::send(reports_.get(), text.data(), text.size(), 0) < 0) ::_exit(74);
  }

  // What this program inherited, beside its own report socket.
  std::string open_descriptors() const {
    std::string text;
    for (int fd = 0; fd < 64; ++fd) {
      const int flags = ::fcntl(fd, F_GETFD);
      // The control socket's flag is set by receive_sockets().
      if (flags >= 0 && ((flags & FD_CLOEXEC) == 0 || fd == control_fd)) text += std::to_string(fd) + ",";
    }
    return text;
  }

  void greet(UniqueFd socket) {
    const int fd = socket.get();
    const std::string hello = name_ + " " + std::to_string(::getpid()) + "\n";
    // The other side may be dying; then its end is already closed.
    (void)::send(fd, hello.data(), hello.size(), MSG_NOSIGNAL);
    const auto added = loop_->add(fd, EPOLLIN, [this, fd](std::uint32_t) {
      std::array<char, 256> bytes{};
      const auto count = ::recv(fd, bytes.data(), bytes.size(), MSG_DONTWAIT);
      if (count > 0) {
        std::string heard(bytes.data(), static_cast<std::size_t>(count) - 1);
        report("heard " + heard);
        return;
      }
      loop_->remove(fd);
      sockets_.erase(fd);
    });
    if (!added) ::_exit(75);
    sockets_[fd] = std::move(socket);
  }

  std::string name_, mode_;
  UniqueFd reports_;
  EventLoop* loop_ = nullptr;
  std::map<int, UniqueFd> sockets_;
};

// ---- the test's side ----

class Supervise : public ::testing::Test {
 protected:
  Supervise() {
    std::string name = "/tmp/daemoneye-supervise-XXXXXX";
    folder_ = ::mkdtemp(name.data());
    reports_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const auto address = address_of(folder_ + "/reports");
    EXPECT_EQ(::bind(reports_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  ~Supervise() override {
    if (supervisor_ > 0) {
      ::kill(supervisor_, SIGKILL);
      ::waitpid(supervisor_, nullptr, 0);
    }
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  Options options(const std::string& first_mode = "normal", const std::string& second_mode = "normal") const {
    const auto spec = [&](const std::string& name, const std::string& mode) {
      return ChildSpec{.name = name, .argv = {"/proc/self/exe", "--supervised", name, mode, folder_ + "/reports"}};
    };
    Options result;
    result.first = spec("first", first_mode);
    result.second = spec("second", second_mode);
    result.backoff_first = 1ms;
    result.backoff_max = 10ms;
    return result;
  }

  void start(const Options& wanted) {
    supervisor_ = ::fork();
    ASSERT_GE(supervisor_, 0);
    if (supervisor_ == 0) {
      observe::start_log("supervise_test", "error", "text");
      ::_exit(supervise::run(wanted));
    }
  }

  // The next report, or nothing when the program is broken.
  std::optional<std::string> next_report() {
    pollfd readable{reports_.get(), POLLIN, 0};
    if (::poll(&readable, 1, Deadline::after(patience).poll_timeout_ms()) != 1) return std::nullopt;
    std::array<char, 512> bytes{};
    const auto count = ::recv(reports_.get(), bytes.data(), bytes.size(), 0);
    if (count <= 0) return std::nullopt;
    std::string text(bytes.data(), static_cast<std::size_t>(count));
    std::istringstream words(text);
    std::string name, pid, what, peer, peer_pid;
    words >> name >> pid >> what >> peer >> peer_pid;
    pid_[name] = std::stoi(pid);
    if (what == "heard") heard_[name] = {std::stoi(pid), std::stoi(peer_pid)};
    seen_.push_back(text);
    return text;
  }

  bool wait_for(const std::function<bool()>& condition) {
    while (!condition()) {
      if (!next_report()) return false;
    }
    return true;
  }

  bool wait_for_report(const std::string& part) {
    for (;;) {
      const auto text = next_report();
      if (!text) return false;
      if (text->find(part) != std::string::npos) return true;
    }
  }

  // Both programs, neither of them one of `gone`, have heard each other over a common socket.
  bool wait_until_connected(std::initializer_list<pid_t> gone = {}) {
    return wait_for([&] {
      const auto a = heard_.find("first");
      const auto b = heard_.find("second");
      if (a == heard_.end() || b == heard_.end()) return false;
      for (const pid_t pid : gone) {
        if (a->second.own == pid || b->second.own == pid) return false;
      }
      return a->second.own == b->second.peer && a->second.peer == b->second.own;
    });
  }

  // The supervisor's exit code; -1 when a signal ended it.
  int end_of_supervisor() {
    int status = 0;
    EXPECT_EQ(::waitpid(supervisor_, &status, 0), supervisor_);
    supervisor_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  struct Heard {
    pid_t own = 0, peer = 0;
  };
  std::string folder_;
  UniqueFd reports_;
  pid_t supervisor_ = 0;
  std::map<std::string, pid_t> pid_;
  std::map<std::string, Heard> heard_;
  std::vector<std::string> seen_;
};

TEST_F(Supervise, ConnectsBothProgramsAndEndsWithZeroOnSigterm) {
  start(options());
  ASSERT_TRUE(wait_until_connected());
  ::kill(supervisor_, SIGTERM);
  EXPECT_EQ(end_of_supervisor(), 0);
}

TEST_F(Supervise, GivesAChildItsOwnSessionAndOnlyTheControlSocket) {
  const UniqueFd inheritable(::open("/dev/null", O_RDONLY));  // NOLINT(android-cloexec-open): to be held back
  ASSERT_TRUE(inheritable);
  start(options());
  ASSERT_TRUE(wait_for_report("started"));
  EXPECT_THAT(seen_.back(), HasSubstr("descriptors=0,1,2,3, session=own"));
}

TEST_F(Supervise, ReconnectsBothAfterTheFirstIsKilledAndTheSecondLivesOn) {
  start(options());
  ASSERT_TRUE(wait_until_connected());
  const pid_t first = pid_["first"];
  const pid_t second = pid_["second"];
  ::kill(first, SIGKILL);
  ASSERT_TRUE(wait_until_connected({first}));
  EXPECT_NE(pid_["first"], first);
  EXPECT_EQ(pid_["second"], second);
}

TEST_F(Supervise, ReconnectsBothAfterTheSecondIsKilledAndTheFirstLivesOn) {
  start(options());
  ASSERT_TRUE(wait_until_connected());
  const pid_t first = pid_["first"];
  const pid_t second = pid_["second"];
  ::kill(second, SIGKILL);
  ASSERT_TRUE(wait_until_connected({second}));
  EXPECT_NE(pid_["second"], second);
  EXPECT_EQ(pid_["first"], first);
}

TEST_F(Supervise, ReconnectsAgainAndAgainAfterBothAreKilled) {
  start(options());
  ASSERT_TRUE(wait_until_connected());
  for (int round = 0; round < 10; ++round) {
    const pid_t first = pid_["first"];
    const pid_t second = pid_["second"];
    ::kill(round % 2 == 0 ? first : second, SIGKILL);
    ::kill(round % 2 == 0 ? second : first, SIGKILL);
    ASSERT_TRUE(wait_until_connected({first, second})) << "round " << round;
  }
  ::kill(supervisor_, SIGINT);
  EXPECT_EQ(end_of_supervisor(), 0);
}

TEST_F(Supervise, StartsAProgramAgainThatCrashesAtOnceSeveralTimes) {
  start(options("crash-until=" + folder_ + "/starts"));
  ASSERT_TRUE(wait_until_connected());
  EXPECT_EQ(std::filesystem::file_size(folder_ + "/starts"), 6U);
}

// With a pause that no test would wait for.
TEST_F(Supervise, StartsAtOnceAgainWhatLostItsSource) {
  auto wanted = options("lost-source-once=" + folder_ + "/lost");
  wanted.backoff_first = wanted.backoff_max = 1h;
  start(wanted);
  ASSERT_TRUE(wait_until_connected());
  EXPECT_TRUE(std::filesystem::exists(folder_ + "/lost"));
}

TEST_F(Supervise, PausesWhenTheSourceIsLostAgain) {
  auto wanted = options("exit=10");
  wanted.backoff_first = wanted.backoff_max = 1h;
  start(wanted);
  const auto exits = [&] {
    return std::ranges::count_if(seen_, [](const std::string& text) { return text.ends_with(" exiting"); });
  };
  ASSERT_TRUE(wait_for([&] { return exits() == 2 && pid_.contains("second"); }));
  ::kill(supervisor_, SIGTERM);
  const int code = end_of_supervisor();
  EXPECT_TRUE(code == 0 || code == 1) << code;  // 1: its second end, with 10, came only after the signal
  // Whatever was started beyond these has reported by now.
  std::array<char, 512> bytes{};
  for (ssize_t count = 0; (count = ::recv(reports_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT)) > 0;) {
    seen_.emplace_back(bytes.data(), static_cast<std::size_t>(count));
  }
  EXPECT_EQ(exits(), 2);
}

TEST_F(Supervise, StopsTheFirstBeforeTheSecond) {
  start(options());
  ASSERT_TRUE(wait_until_connected());
  ::kill(supervisor_, SIGTERM);
  ASSERT_TRUE(wait_for_report("second " + std::to_string(pid_["second"]) + " ending"));
  std::vector<std::string> order;
  for (const auto& text : seen_) {
    if (text.ends_with(" stop") || text.ends_with(" ending")) {
      order.push_back(text.substr(0, text.find(' ')) + text.substr(text.rfind(' ')));
    }
  }
  EXPECT_EQ(order, (std::vector<std::string>{"first stop", "first ending", "second stop", "second ending"}));
  EXPECT_EQ(end_of_supervisor(), 0);
}

TEST_F(Supervise, ForwardsSighupToBothAndGoesOn) {
  start(options());
  ASSERT_TRUE(wait_until_connected());
  ::kill(supervisor_, SIGHUP);
  ASSERT_TRUE(wait_for([&] {
    int reloads = 0;
    for (const auto& text : seen_) reloads += text.ends_with(" reload") ? 1 : 0;
    return reloads == 2;
  }));
  ::kill(supervisor_, SIGTERM);
  EXPECT_EQ(end_of_supervisor(), 0);
}

TEST_F(Supervise, AFinalExitCodeStopsTheOtherAndIsTheCodeOfTheWhole) {
  start(options("normal", "exit=4"));
  ASSERT_TRUE(wait_for_report("exiting"));
  EXPECT_EQ(end_of_supervisor(), 4);
  EXPECT_EQ(::kill(pid_["second"], 0), -1);
}

TEST_F(Supervise, KillsAProgramThatDoesNotEndWithinTheGrace) {
  auto wanted = options("deaf");
  wanted.shutdown_grace = 50ms;
  start(wanted);
  ASSERT_TRUE(wait_until_connected());
  ::kill(supervisor_, SIGTERM);
  ASSERT_TRUE(wait_for_report("second " + std::to_string(pid_["second"]) + " ending"));
  EXPECT_EQ(end_of_supervisor(), 1);
}

TEST_F(Supervise, ABadEndOfAProgramAtTheStopIsNotHidden) {
  start(options("bad-end"));
  ASSERT_TRUE(wait_until_connected());
  ::kill(supervisor_, SIGTERM);
  EXPECT_EQ(end_of_supervisor(), 1);
}

TEST_F(Supervise, KilledItTakesItsProgramsAlong) {
  start(options("deaf", "deaf"));
  ASSERT_TRUE(wait_until_connected());
  std::array<UniqueFd, 2> programs;
  programs[0].reset(static_cast<int>(::syscall(SYS_pidfd_open, pid_["first"], 0)));
  programs[1].reset(static_cast<int>(::syscall(SYS_pidfd_open, pid_["second"], 0)));
  ::kill(supervisor_, SIGKILL);
  EXPECT_EQ(end_of_supervisor(), -1);
  for (const auto& program : programs) {
    ASSERT_TRUE(program);
    pollfd ended{program.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&ended, 1, Deadline::after(patience).poll_timeout_ms()), 1);
  }
}

TEST_F(Supervise, RefusesToStartWhenAProgramIsMissing) {
  auto wanted = options();
  wanted.second.argv.front() = folder_ + "/no-such-program";
  start(wanted);
  EXPECT_EQ(end_of_supervisor(), 4);
}

TEST(Handover, CarriesADescriptorThatStillWorksAfterTheSenderClosedIt) {
  std::array<int, 2> carrier{};
  std::array<int, 2> cargo{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, carrier.data()), 0);
  ASSERT_EQ(::pipe2(cargo.data(), O_CLOEXEC), 0);
  const UniqueFd left(carrier[0]);
  const UniqueFd right(carrier[1]);
  const UniqueFd reader(cargo[0]);
  UniqueFd writer(cargo[1]);
  ASSERT_TRUE(send_fd(left.get(), writer.get()));
  writer.reset();
  auto received = receive_fd(right.get());
  ASSERT_TRUE(received) << received.error().message;
  EXPECT_NE(::fcntl(received->get(), F_GETFD) & FD_CLOEXEC, 0);
  ASSERT_TRUE(base::write_all(received->get(), "bytes"));
  received->reset();
  EXPECT_EQ(base::read_up_to(reader.get(), 100).value_or(""), "bytes");
}

TEST(Handover, TellsAMessageWithoutADescriptorFromTheEnd) {
  std::array<int, 2> carrier{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, carrier.data()), 0);
  UniqueFd left(carrier[0]);
  const UniqueFd right(carrier[1]);
  ASSERT_EQ(::send(left.get(), "s", 1, 0), 1);
  EXPECT_EQ(receive_fd(right.get()).error().code, Errc::corrupt);
  left.reset();
  EXPECT_EQ(receive_fd(right.get()).error().code, Errc::unavailable);
  EXPECT_EQ(send_fd(right.get(), 0).error().code, Errc::unavailable);
}

TEST(Handover, SendingToASideThatReadsNothingFailsInsteadOfBlocking) {
  std::array<int, 2> carrier{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, carrier.data()), 0);
  const UniqueFd left(carrier[0]);
  const UniqueFd right(carrier[1]);
  Result<void> sent;
  for (int i = 0; i < 100000 && sent; ++i) sent = send_fd(left.get(), 0);
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code, Errc::limit_exceeded);
}

TEST(Handover, RefusesADescriptorThatIsNotTheSupervisorsSocket) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const UniqueFd reader(ends[0]);
  const UniqueFd writer(ends[1]);
  auto loop = EventLoop::create();
  ASSERT_TRUE(loop);
  const auto outcome = receive_sockets(**loop, reader.get(), [](UniqueFd) {}, [] {});
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, Errc::unavailable);
}

}  // namespace

int run_supervised(const std::string& name, const std::string& mode, const std::string& reports) {
  return Program(name, mode, reports).run();
}

}  // namespace daemoneye::supervise

int main(int argc, char** argv) {
  if (argc == 5 && std::string(argv[1]) == "--supervised") {
    return daemoneye::supervise::run_supervised(argv[2], argv[3], argv[4]);
  }
  ::testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
