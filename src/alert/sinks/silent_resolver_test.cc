// A resolver that says nothing, in a network and a view of the file system of their own. Needs root.
#include <gmock/gmock.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include <tuple>

#include "alert/sinks/peer_test_util.h"

namespace daemoneye::alert::testing {
namespace {

using namespace std::chrono_literals;

// All that is left of the network is a name server that takes every question and answers none. The resolver waits for
// it much longer than the test does.
bool leave_alone_with_a_silent_name_server(const std::string& conf, int& server) {
  std::ofstream(conf) << "nameserver 127.0.0.1\noptions timeout:30 attempts:5\n";
  if (::unshare(CLONE_NEWNET | CLONE_NEWNS) != 0) return false;
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return false;
  if (::mount(conf.c_str(), "/etc/resolv.conf", nullptr, MS_BIND, nullptr) != 0) return false;
  server = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ifreq loopback{};
  std::snprintf(loopback.ifr_name, sizeof loopback.ifr_name, "lo");
  loopback.ifr_flags = IFF_UP | IFF_RUNNING;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(53);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return ::ioctl(server, SIOCSIFFLAGS, &loopback) == 0 &&
         ::bind(server, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
}

// Ends with 0 when an attempt, and the sink's end, do not wait for the resolver.
int try_sink(const config::SinkSettings& settings, const std::string& conf) {
  int server = -1;
  if (!leave_alone_with_a_silent_name_server(conf, server)) return 2;
  auto sink = make_sink(settings);
  if (!sink) return 3;
  const auto late = (*sink)->send(make_alert("x"), {});
  if (late || late.error().permanent || !late.error().message.contains("look up siem.example.test: no answer in time"))
    return 4;
  std::stop_source stop;
  auto patient = settings;
  patient.options["connect_timeout_ms"] = patient.options["timeout_ms"] = "300000";
  sink = make_sink(patient);
  std::thread sender([&] { std::ignore = (*sink)->send(make_alert("x"), stop.get_token()); });
  char question[512];
  if (::recv(server, question, sizeof question, 0) <= 0) return 5;
  stop.request_stop();
  sender.join();
  sink->reset();
  return 0;
}

class SilentResolver : public ::testing::TestWithParam<const char*> {};

TEST_P(SilentResolver, HoldsNoAttemptBeyondItsTimeOutAndNoStop) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  const TempFolder folder;
  config::SinkSettings settings;
  settings.type = settings.name = GetParam();
  settings.options = {{"connect_timeout_ms", "200"}, {"timeout_ms", "400"}};
  if (settings.type == "webhook") settings.options["url"] = "https://siem.example.test/";
  if (settings.type == "email") {
    settings.options["host"] = "siem.example.test";
    settings.options["from"] = "a@b.example";
    settings.lists["to"] = {"c@d.example"};
  }
  if (settings.type == "syslog") {
    settings.options["transport"] = "tcp";
    settings.options["host"] = "siem.example.test";
  }
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(20);  // of the 150 s that the resolver takes
    ::_exit(try_sink(settings, folder.file("resolv.conf")));
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_FALSE(WIFSIGNALED(status)) << "it waited for the resolver";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}
INSTANTIATE_TEST_SUITE_P(Sinks, SilentResolver, ::testing::Values("webhook", "email", "syslog"));

}  // namespace
}  // namespace daemoneye::alert::testing
