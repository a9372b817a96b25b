#include <gmock/gmock.h>
#include <sys/un.h>

#include "alert/sinks/options.h"
#include "alert/sinks/peer_test_util.h"
#include "alert/sinks/sinks.h"
#include "alert/sinks/syslog_message.h"

namespace daemoneye::alert::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::StartsWith;

config::SinkSettings syslog_settings(const std::string& transport, const std::string& port) {
  config::SinkSettings settings;
  settings.type = settings.name = "syslog";
  settings.options["transport"] = transport;
  settings.options["host"] = "127.0.0.1";
  settings.options["port"] = port;
  settings.options["timeout_ms"] = "5000";
  return settings;
}

config::SinkSettings unix_settings(const std::string& path) {
  config::SinkSettings settings;
  settings.type = settings.name = "syslog";
  settings.options["path"] = path;
  return settings;
}

config::SinkSettings tls_settings(const Peer& peer) {
  auto settings = syslog_settings("tls", peer["port"]);
  settings.options["ca_file"] = peer["ca"];
  settings.options["client_certificate"] = peer["client"];
  settings.options["client_key"] = peer["client_key"];
  return settings;
}

TEST(SyslogMessage, IsAsRfc5424Says) {
  auto alert = make_alert("id-1", store::Severity::critical);
  alert.time = Timestamp{1'800'000'000'123'456'789};
  alert.host = "web 1";
  SyslogStyle style;
  style.facility = 10;
  style.process_id = "77";
  EXPECT_EQ(syslog_message(alert, "what happened", style),
            "<82>1 2027-01-15T08:00:00.123456Z web_1 daemoneye 77 some-rule "
            "[origin software=\"DaemonEye\" swVersion=\"0.1.0\"]"
            "[daemoneye@32473 alertId=\"id-1\" ruleId=\"some-rule\" severity=\"critical\" count=\"1\" status=\"open\" "
            "pid=\"42\" name=\"bash\" executablePath=\"/usr/bin/bash\" completeness=\"complete\"] "
            "\xef\xbb\xbfwhat happened");
  style.bom = false;
  EXPECT_THAT(syslog_message(alert, "x", style), ::testing::EndsWith("] x"));
}

TEST(SyslogMessage, MapsSeverities) {
  const SyslogStyle style{.facility = 16, .app_name = "daemoneye"};
  for (const auto& [severity, priority] :
       std::map<store::Severity, std::string>{{store::Severity::low, "<133>1 "},
                                              {store::Severity::medium, "<132>1 "},
                                              {store::Severity::high, "<131>1 "},
                                              {store::Severity::critical, "<130>1 "}}) {
    EXPECT_THAT(syslog_message(make_alert("x", severity), "t", style), StartsWith(priority));
  }
  EXPECT_EQ(syslog_facility("local7"), 23U);
  EXPECT_EQ(syslog_facility("authpriv"), 10U);
  EXPECT_FALSE(syslog_facility("lokal"));
}

TEST(SyslogMessage, EscapesStructuredDataAndForgesNoField) {
  auto alert = make_alert("x");
  alert.name = "a\"b]c\\d\n<1>1 forged";
  alert.rule_id = "rule\n<0>1 \x1b";
  alert.host = std::string(400, 'h');
  const auto message = syslog_message(alert, "two\n  lines\r\n\nend", {});
  EXPECT_THAT(message, HasSubstr(R"(name="a\"b\]c\\d\\n<1>1 forged")"));
  EXPECT_FALSE(message.contains('\n'));
  EXPECT_FALSE(message.contains('\x1b'));
  EXPECT_THAT(message, HasSubstr("two | lines | end"));
  EXPECT_THAT(message, HasSubstr(' ' + std::string(255, 'h') + ' '));
}

TEST(SyslogMessage, IsCutAtACharacterAndSaysSo) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += "ä";
  for (std::size_t limit = min_syslog_bytes; limit < min_syslog_bytes + 4; ++limit) {
    const auto message = syslog_message(make_alert("x"), text, {}, limit);
    EXPECT_LE(message.size(), limit);
    EXPECT_GE(message.size(), limit - 3);
    EXPECT_THAT(message, HasSubstr("cutFrom=\"10000\""));
    EXPECT_THAT(message, ::testing::EndsWith("ä…"));
  }
  EXPECT_FALSE(syslog_message(make_alert("x"), "short", {}, min_syslog_bytes).contains("cutFrom"));
}

TEST(SyslogMessage, HasRoomForItsHeadWhateverTheAlertHolds) {
  store::Alert alert = make_alert(std::string(500, '"'));
  alert.rule_id = alert.host = alert.agent_version = alert.status = std::string(500, ']');
  alert.process_key = alert.name = alert.executable_path = std::string(500, '\\');
  SyslogStyle style;
  style.app_name = style.process_id = std::string(500, 'a');
  EXPECT_LE(syslog_message(alert, std::string(9000, 'x'), style, min_syslog_bytes).size(), min_syslog_bytes);
}

// ---- rsyslog ----

TEST(SyslogSink, ReachesRsyslogByTcpUdpAndUnixSocket) {
  const Peer peer("syslog");
  auto tcp = must_make(syslog_settings("tcp", peer["port"]));
  auto udp = must_make(syslog_settings("udp", peer["udp_port"]));
  auto local = must_make(unix_settings(peer["socket"]));
  ASSERT_TRUE(tcp && udp && local);
  auto big = make_alert("big-by-tcp");
  big.command_line = std::string(40'000, 'x');
  for (const auto& result : {tcp->send(big, {}), tcp->send(make_alert("second-by-tcp"), {}),
                             udp->send(make_alert("by-udp"), {}), local->send(make_alert("by-socket"), {})}) {
    EXPECT_TRUE(result) << result.error().message;
  }
  big.alert_id = "big-by-udp";
  EXPECT_TRUE(udp->send(big, {}));
  const auto received = peer.wait_received(5);
  ASSERT_EQ(received.size(), 5U);
  std::map<std::string, nlohmann::json> by_id;
  for (const auto& one : received) {
    EXPECT_EQ(one.at("facility"), "daemon");
    EXPECT_EQ(one.at("severity"), "err");
    EXPECT_EQ(one.at("app"), "daemoneye");
    EXPECT_EQ(one.at("procid"), std::to_string(::getpid()));
    EXPECT_EQ(one.at("msgid"), "some-rule");
    EXPECT_EQ(one.at("host"), "web1");
    const auto data = one.at("data").get<std::string>();
    const auto at = data.find("alertId=\"") + 9;
    by_id[data.substr(at, data.find('"', at) - at)] = one;
  }
  ASSERT_EQ(by_id.size(), 5U);
  // Whole, 40 KB of it: after the byte order mark it is the alert's JSON.
  const auto text = by_id.at("big-by-tcp").at("msg").get<std::string>();
  ASSERT_THAT(text, StartsWith("\xef\xbb\xbf"));
  EXPECT_EQ(nlohmann::json::parse(text.substr(3)).at("command_line").get<std::string>().size(), 40'000U);
  EXPECT_THAT(by_id.at("big-by-udp").at("data").get<std::string>(), HasSubstr("cutFrom="));
  EXPECT_THAT(by_id.at("big-by-udp").at("msg").get<std::string>(), ::testing::EndsWith("…"));
}

TEST(SyslogSink, ReconnectsWhenTheReceiverWasRestarted) {
  Peer peer("syslog");
  auto sink = must_make(syslog_settings("tcp", peer["port"]));
  ASSERT_TRUE(sink && sink->send(make_alert("before"), {}));
  ASSERT_EQ(peer.wait_received(1).size(), 1U);
  peer.restart();
  const auto after = sink->send(make_alert("after"), {});
  EXPECT_TRUE(after) << after.error().message;
  EXPECT_THAT(peer.wait_received(2).at(1).at("data").get<std::string>(), HasSubstr("alertId=\"after\""));
}

TEST(SyslogSink, ReachesRsyslogByTlsWithAClientCertificate) {
  const Peer peer("syslog-tls");
  auto sink = must_make(tls_settings(peer));
  ASSERT_TRUE(sink);
  auto big = make_alert("by-tls");
  big.command_line = std::string(100'000, 'x');
  const auto sent = sink->send(big, {});
  ASSERT_TRUE(sent) << sent.error().message;
  EXPECT_TRUE(sink->send(make_alert("second"), {}));
  const auto received = peer.wait_received(2);
  EXPECT_THAT(received.at(0).at("data").get<std::string>(), HasSubstr("alertId=\"by-tls\""));
  EXPECT_GT(received.at(0).at("msg").get<std::string>().size(), 100'000U);
}

TEST(SyslogSink, SendsNothingToAServerThatItCannotVerify) {
  const Peer peer("syslog-tls");
  auto other_ca = tls_settings(peer);
  other_ca.options["ca_file"] = peer["other_ca"];
  auto wrong_name = tls_settings(peer);
  wrong_name.options["server_name"] = "elsewhere.example";
  auto system_ca = tls_settings(peer);
  system_ca.options.erase("ca_file");
  for (const auto& settings : {other_ca, wrong_name, system_ca}) {
    const auto result = must_make(settings)->send(make_alert("x"), {});
    ASSERT_FALSE(result);
    EXPECT_FALSE(result.error().permanent);
    EXPECT_THAT(result.error().message, HasSubstr("is not accepted"));
  }
  // TLS 1.3: the server refuses us only after our side of the handshake is done.
  auto no_certificate = tls_settings(peer);
  no_certificate.options.erase("client_certificate");
  no_certificate.options.erase("client_key");
  const auto refused = must_make(no_certificate)->send(make_alert("x"), {});
  EXPECT_FALSE(refused);
  EXPECT_TRUE(peer.received().empty());
}

// ---- odd peers ----

TEST(SyslogSink, CountsOctets) {
  std::string text;
  std::atomic<bool> ended{false};
  SmallServer server([&](int fd) {
    text = read_to_end(fd);
    ended = true;
  });
  {
    auto sink = must_make(syslog_settings("tcp", server.port()));
    ASSERT_TRUE(sink->send(make_alert("one"), {}));
    ASSERT_TRUE(sink->send(make_alert("two"), {}));
  }
  ASSERT_TRUE(eventually([&] { return ended.load(); }));
  std::vector<std::string> frames;
  for (std::size_t at = 0; at < text.size();) {
    const auto space = text.find(' ', at);
    const auto size = std::stoul(text.substr(at, space - at));
    frames.push_back(text.substr(space + 1, size));
    at = space + 1 + size;
  }
  ASSERT_EQ(frames.size(), 2U);
  EXPECT_THAT(frames[0], HasSubstr("alertId=\"one\""));
  EXPECT_EQ(server.connections(), 1);
}

TEST(SyslogSink, NoticesAPeerThatClosedBeforeItCountsTheAlertAsSent) {
  std::atomic<int> closed{0};
  std::string second;
  std::atomic<bool> got{false};
  SmallServer server([&](int fd) {
    if (closed++ == 0) {  // the first connection is closed after its first message
      char buffer[64];
      ::recv(fd, buffer, sizeof buffer, 0);
      return;
    }
    char buffer[8192];
    const auto size = ::recv(fd, buffer, sizeof buffer, 0);
    second.assign(buffer, static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
    got = true;
    read_to_end(fd);
  });
  auto sink = must_make(syslog_settings("tcp", server.port()));
  (void)sink->send(make_alert("one"), {});
  ASSERT_TRUE(eventually([&] { return closed.load() == 1; }));
  ASSERT_TRUE(eventually([&] { return sink->send(make_alert("two"), {}).has_value(); }));
  ASSERT_TRUE(eventually([&] { return got.load(); }));
  EXPECT_THAT(second, HasSubstr("alertId=\"two\""));
}

TEST(SyslogSink, APeerThatReadsNothingIsATimeOut) {
  std::atomic<bool> end{false};
  SmallServer server([&](int) {
    while (!end) std::this_thread::sleep_for(5ms);
  });
  auto settings = syslog_settings("tcp", server.port());
  settings.options["timeout_ms"] = "300";
  auto sink = must_make(settings);
  auto big = make_alert("big");
  big.command_line = std::string(16 * 1024 * 1024, 'x');  // more than both sides' buffers
  const auto result = sink->send(big, {});
  end = true;
  ASSERT_FALSE(result);
  EXPECT_FALSE(result.error().permanent);
  EXPECT_THAT(result.error().message, HasSubstr("timed out"));
  EXPECT_FALSE(sink->health_check().healthy);
}

TEST(SyslogSink, APeerThatNeverShakesHandsEndsWithTheTimeOutAndWithTheStop) {
  const Peer peer("syslog-tls");  // for its CA
  std::atomic<bool> end{false};
  SmallServer server([&](int) {
    while (!end) std::this_thread::sleep_for(5ms);
  });
  auto settings = syslog_settings("tls", server.port());
  settings.options["ca_file"] = peer["ca"];
  settings.options["connect_timeout_ms"] = "200";
  const auto late = must_make(settings)->send(make_alert("x"), {});
  ASSERT_FALSE(late);
  EXPECT_THAT(late.error().message, HasSubstr("TLS handshake: timed out"));
  settings.options["connect_timeout_ms"] = settings.options["timeout_ms"] = "300000";
  auto patient = must_make(settings);
  std::stop_source stop;
  std::thread sender([&] { EXPECT_FALSE(patient->send(make_alert("x"), stop.get_token())); });
  stop.request_stop();
  sender.join();
  end = true;
}

TEST(SyslogSink, NobodyThereIsATemporaryErrorThatNamesThePlace) {
  std::string port;
  {
    port = SmallServer([](int) {}).port();
  }
  const auto tcp = must_make(syslog_settings("tcp", port))->send(make_alert("x"), {});
  ASSERT_FALSE(tcp);
  EXPECT_FALSE(tcp.error().permanent);
  EXPECT_THAT(tcp.error().message, HasSubstr("tcp://127.0.0.1:" + port + ": 127.0.0.1: connect: Connection refused"));
  TempFolder folder;
  const auto local = must_make(unix_settings(folder.file("none")))->send(make_alert("x"), {});
  ASSERT_FALSE(local);
  EXPECT_THAT(local.error().message, HasSubstr("No such file"));
  auto unknown = syslog_settings("tcp", port);
  unknown.options["host"] = "no-such-host.invalid";
  EXPECT_FALSE(must_make(unknown)->send(make_alert("x"), {}));
}

TEST(SyslogSink, SpeaksToAStreamSocketAsSyslog3Does) {
  TempFolder folder;
  const auto path = folder.file("stream");
  const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(listener.get(), 4), 0);
  std::string text;
  std::thread reader([&] {
    const UniqueFd connection(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    text = read_to_end(connection.get());
  });
  {
    auto sink = must_make(unix_settings(path));
    EXPECT_TRUE(sink->send(make_alert("one"), {}));
    EXPECT_TRUE(sink->send(make_alert("two"), {}));
  }
  reader.join();
  EXPECT_EQ(std::ranges::count(text, '\0'), 2);
  EXPECT_TRUE(text.ends_with('\0'));
}

TEST(SyslogSink, ItsKeysMustFitTogether) {
  const auto problem = [](std::map<std::string, std::string> options) {
    config::SinkSettings settings;
    settings.type = settings.name = "syslog";
    settings.options = std::move(options);
    const auto made = make_sink(settings);
    return made ? "(no problem)" : made.error().message;
  };
  EXPECT_THAT(problem({{"transport", "tcp"}}), HasSubstr("needs a host"));
  EXPECT_THAT(problem({{"host", "h"}}), HasSubstr("needs a transport"));
  EXPECT_THAT(problem({{"transport", "tcp"}, {"host", "h"}, {"path", "/p"}}), HasSubstr("path is the socket"));
  EXPECT_THAT(problem({{"transport", "tcp"}, {"host", "h"}, {"ca_file", "/p"}}), HasSubstr("needs transport tls"));
  EXPECT_THAT(problem({{"transport", "tls"}, {"host", "h"}, {"client_key", "/p"}}), HasSubstr("given together"));
  EXPECT_THAT(problem({{"transport", "tls"}, {"host", "h"}, {"ca_file", "/none"}}), HasSubstr("CA file /none"));
}

}  // namespace
}  // namespace daemoneye::alert::testing
