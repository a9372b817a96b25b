#include <gmock/gmock.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "alert/sinks/peer_test_util.h"
#include "alert/sinks/retry_after.h"
#include "alert/sinks/sinks.h"
#include "base/hash.h"

namespace daemoneye::alert::testing {
namespace {

using namespace std::chrono_literals;
using config::SecretReference;
using ::testing::HasSubstr;
using Kind = SecretReference::Kind;

config::SinkSettings webhook_settings(const std::string& url) {
  config::SinkSettings settings;
  settings.type = settings.name = "webhook";
  settings.options["url"] = url;
  settings.options["timeout_ms"] = "5000";
  return settings;
}

config::SinkSettings https_settings(const Peer& peer, const std::string& path) {
  auto settings = webhook_settings("https://localhost:" + peer["port"] + path);
  settings.options["ca_file"] = peer["ca"];
  settings.options["client_certificate"] = peer["client"];
  settings.options["client_key"] = peer["client_key"];
  return settings;
}

std::string unbase64(const std::string& text) {
  std::string out(text.size(), '\0');
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  out.resize(static_cast<std::size_t>(size) - static_cast<std::size_t>(std::ranges::count(text, '=')));
  return out;
}

// ---- Apache ----

TEST(WebhookSink, ReachesAnHttpsServerThatWantsAClientCertificate) {
  const Peer peer("https");
  ::setenv("A_BEARER_TOKEN", "t0ken-of-the-test", 1);
  ::setenv("A_SIGNING_KEY", "k3y-of-the-test", 1);
  ::setenv("AN_API_KEY", "4pi-key", 1);
  auto settings = https_settings(peer, "/alerts?team=blue");
  settings.options["headers.X-Team"] = "blue";
  settings.secrets["headers.X-Api-Key"] = {Kind::env, "AN_API_KEY"};
  settings.secrets["bearer_token"] = {Kind::env, "A_BEARER_TOKEN"};
  settings.secrets["signing_key"] = {Kind::env, "A_SIGNING_KEY"};
  settings.format = "ecs";
  auto sink = must_make(settings);
  ASSERT_TRUE(sink);
  for (const char* id : {"one", "two", "three"}) {
    const auto sent = sink->send(make_alert(id), {});
    ASSERT_TRUE(sent) << sent.error().message;
    EXPECT_EQ(sent->response_code, 200);
  }
  const auto received = peer.wait_received(3);
  const auto& first = received.at(0);
  EXPECT_EQ(first.at("method"), "POST");
  EXPECT_EQ(first.at("path"), "/alerts?team=blue");
  EXPECT_EQ(first.at("client"), "daemoneye-client");
  EXPECT_EQ(first.at("type"), "application/json");
  const auto& headers = first.at("headers");
  EXPECT_EQ(headers.at("authorization"), "Bearer t0ken-of-the-test");
  EXPECT_EQ(headers.at("x-team"), "blue");
  EXPECT_EQ(headers.at("x-api-key"), "4pi-key");
  EXPECT_EQ(headers.at("idempotency-key"), "one");
  const auto body = unbase64(first.at("body"));
  EXPECT_EQ(nlohmann::json::parse(body).at("event").at("id"), "one");
  // The signature as a receiver checks it.
  const auto signature = headers.at("x-daemoneye-signature").get<std::string>();
  const auto comma = signature.find(",v1=");
  ASSERT_TRUE(signature.starts_with("t=") && comma != std::string::npos) << signature;
  const std::string signed_text = signature.substr(2, comma - 2) + '.' + body;
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  HMAC(EVP_sha256(), "k3y-of-the-test", 15, reinterpret_cast<const unsigned char*>(signed_text.data()),
       signed_text.size(), digest, &size);
  EXPECT_EQ(signature.substr(comma + 4), base::to_hex(std::string_view(reinterpret_cast<char*>(digest), size)));
  // One connection for all three.
  EXPECT_EQ(received.at(2).at("connection"), first.at("connection"));
}

TEST(WebhookSink, CompressesWhatTheServerUnpacks) {
  const Peer peer("https");
  auto settings = https_settings(peer, "/gzip");
  settings.options["gzip"] = "true";
  auto alert = make_alert("packed");
  alert.command_line = std::string(20'000, 'x');
  const auto sent = must_make(settings)->send(alert, {});
  ASSERT_TRUE(sent) << sent.error().message;
  const auto received = peer.wait_received(1);
  EXPECT_EQ(received.at(0).at("headers").at("content-encoding"), "gzip");
  EXPECT_EQ(nlohmann::json::parse(unbase64(received.at(0).at("body"))).at("alert_id"), "packed");
}

TEST(WebhookSink, SendsNothingToAServerThatItCannotVerifyOrThatRefusesIt) {
  const Peer peer("https");
  auto other_ca = https_settings(peer, "/alerts");
  other_ca.options["ca_file"] = peer["other_ca"];
  auto system_ca = https_settings(peer, "/alerts");
  system_ca.options.erase("ca_file");
  auto no_certificate = https_settings(peer, "/alerts");
  no_certificate.options.erase("client_certificate");
  no_certificate.options.erase("client_key");
  for (const auto& settings : {other_ca, system_ca, no_certificate}) {
    const auto result = must_make(settings)->send(make_alert("x"), {});
    ASSERT_FALSE(result);
    EXPECT_FALSE(result.error().permanent) << result.error().message;
  }
  EXPECT_TRUE(peer.received().empty());
}

TEST(WebhookSink, ARefusalIsPermanentAndARedirectIsNotFollowed) {
  const Peer peer("https");
  const auto refused = must_make(https_settings(peer, "/refuse"))->send(make_alert("x"), {});
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().permanent);
  EXPECT_EQ(refused.error().response_code, 422);
  EXPECT_THAT(refused.error().message, HasSubstr("no such team"));
  const auto moved = must_make(https_settings(peer, "/moved"))->send(make_alert("x"), {});
  ASSERT_FALSE(moved);
  EXPECT_EQ(moved.error().response_code, 302);
  EXPECT_THAT(moved.error().message, HasSubstr("redirects are not followed"));
  EXPECT_EQ(peer.received().size(), 1U);
}

// ---- odd peers ----

// Answers every request on every connection with the same text.
struct Answering {
  explicit Answering(std::string answer)
      : server([this, answer = std::move(answer)](int fd) {
          for (std::string request; !(request = read_request(fd)).empty();) {
            {
              std::lock_guard lock(mutex);
              last = request;
            }
            if (!send_all(fd, answer)) return;
          }
        }) {}
  std::string url() const { return "http://127.0.0.1:" + server.port() + "/hook"; }
  std::mutex mutex;
  std::string last;
  SmallServer server;
};

DeliveryError error_of(const std::string& answer) {
  const Answering peer("HTTP/1.1 " + answer);
  const auto result = must_make(webhook_settings(peer.url()))->send(make_alert("x"), {});
  if (!result) return result.error();
  ADD_FAILURE() << answer;
  return {};
}

TEST(WebhookSink, SaysWhenItMayBeTriedAgain) {
  const auto busy = error_of("429 Too Many Requests\r\nRetry-After: 17\r\nContent-Length: 0\r\n\r\n");
  EXPECT_FALSE(busy.permanent);
  EXPECT_EQ(busy.response_code, 429);
  EXPECT_EQ(busy.retry_after, 17s);
  const auto down = error_of("503 Down\r\nRetry-After: Fri, 31 Dec 2100 23:59:59 GMT\r\nContent-Length: 0\r\n\r\n");
  EXPECT_EQ(down.retry_after, 24h);
  EXPECT_FALSE(error_of("500 Oh\r\nRetry-After: soon\r\nContent-Length: 0\r\n\r\n").retry_after);
  EXPECT_FALSE(error_of("408 Late\r\nContent-Length: 0\r\n\r\n").permanent);
  EXPECT_TRUE(error_of("404 None\r\nContent-Length: 0\r\n\r\n").permanent);
}

TEST(WebhookSink, AnAnswerIsBoundedAndShownInPart) {
  const auto error =
      error_of("400 Bad\r\nContent-Length: 100000000\r\n\r\nbad \x1b[2J thing\n" + std::string(300'000, 'y'));
  EXPECT_EQ(error.response_code, 400);
  EXPECT_TRUE(error.permanent);
  EXPECT_LT(error.message.size(), 500U);
  EXPECT_THAT(error.message, HasSubstr("bad \\x1b[2J thing"));
}

TEST(WebhookSink, AServerThatHangsEndsWithTheTimeOutAndWithTheStop) {
  const Answering peer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");  // and nothing more
  auto settings = webhook_settings(peer.url());
  settings.options["timeout_ms"] = "200";
  const auto late = must_make(settings)->send(make_alert("x"), {});
  ASSERT_FALSE(late);
  EXPECT_FALSE(late.error().permanent);
  EXPECT_THAT(late.error().message, HasSubstr("no answer in time"));
  settings.options["timeout_ms"] = "300000";
  auto patient = must_make(settings);
  std::stop_source stop;
  std::thread sender([&] { EXPECT_FALSE(patient->send(make_alert("x"), stop.get_token())); });
  EXPECT_TRUE(eventually([&] { return peer.server.connections() >= 2; }));
  stop.request_stop();
  sender.join();
}

TEST(WebhookSink, AConnectionThatTheServerClosedIsMadeAnew) {
  SmallServer server([](int fd) {
    if (!read_request(fd).empty()) send_all(fd, "HTTP/1.1 204 No Content\r\n\r\n");
  });
  auto sink = must_make(webhook_settings("http://127.0.0.1:" + server.port() + "/"));
  for (int i = 0; i < 5; ++i) {
    const auto sent = sink->send(make_alert("x"), {});
    EXPECT_TRUE(sent) << sent.error().message;
  }
  EXPECT_EQ(server.connections(), 5);
}

TEST(WebhookSink, HttpIsWarnedOf) {
  const auto sink = must_make(webhook_settings("http://127.0.0.1:9/"));
  EXPECT_THAT(sink->health_check().warning, HasSubstr("unencrypted"));
  EXPECT_TRUE(sink->health_check().healthy);
  EXPECT_EQ(must_make(webhook_settings("https://127.0.0.1:9/"))->health_check().warning, "");
}

TEST(WebhookSink, NoErrorHoldsASecret) {
  ::setenv("A_SECRET_URL", "http://127.0.0.1:1/services/T0P-s3cret?token=an0ther", 1);
  ::setenv("A_BEARER_TOKEN", "t0ken-of-the-test", 1);
  auto settings = webhook_settings("");
  settings.options.erase("url");
  settings.secrets["url"] = {Kind::env, "A_SECRET_URL"};
  settings.secrets["bearer_token"] = {Kind::env, "A_BEARER_TOKEN"};
  const auto nobody = must_make(settings)->send(make_alert("x"), {});
  ASSERT_FALSE(nobody);
  EXPECT_THAT(nobody.error().message, HasSubstr("http://127.0.0.1:1"));
  // A server that says everything back.
  SmallServer echo([](int fd) {
    const auto request = read_request(fd);
    const auto start = request.substr(0, 150) + request.substr(request.find("Authorization"), 60);
    send_all(fd, "HTTP/1.1 400 Bad\r\nContent-Length: " + std::to_string(start.size()) + "\r\n\r\n" + start);
  });
  ::setenv("A_SECRET_URL", ("http://127.0.0.1:" + echo.port() + "/services/T0P-s3cret?token=an0ther").c_str(), 1);
  const auto echoed = must_make(settings)->send(make_alert("x"), {});
  ASSERT_FALSE(echoed);
  EXPECT_THAT(echoed.error().message, HasSubstr("***"));
  for (const auto& message : {nobody.error().message, echoed.error().message}) {
    for (const char* secret : {"T0P-s3cret", "an0ther", "t0ken-of-the-test"})
      EXPECT_THAT(message, Not(HasSubstr(secret)));
  }
}

TEST(WebhookSink, ReadsSecretsAgainAfterAReload) {
  const Answering peer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  TempFolder folder;
  const auto write = [&](const std::string& text) {
    std::ofstream(folder.file("token")) << text;
    std::filesystem::permissions(folder.file("token"), std::filesystem::perms(0600));
  };
  write("first-token");
  auto settings = webhook_settings(peer.url());
  settings.secrets["bearer_token"] = {Kind::file, folder.file("token")};
  auto sink = must_make(settings);
  EXPECT_TRUE(sink->send(make_alert("x"), {}));
  EXPECT_THAT(peer.last, HasSubstr("Bearer first-token"));
  write("second-token");
  sink->reopen();
  EXPECT_TRUE(sink->send(make_alert("x"), {}));
  EXPECT_THAT(peer.last, HasSubstr("Bearer second-token"));
}

TEST(WebhookSink, GoesThroughAProxy) {
  const Answering proxy("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  ::setenv("A_PROXY", ("http://ann:pr0xy-pass@127.0.0.1:" + proxy.server.port()).c_str(), 1);
  auto settings = webhook_settings("http://alerts.example/hook");
  settings.secrets["proxy"] = {Kind::env, "A_PROXY"};
  const auto sent = must_make(settings)->send(make_alert("x"), {});
  EXPECT_TRUE(sent) << sent.error().message;
  EXPECT_THAT(proxy.last, HasSubstr("POST http://alerts.example/hook HTTP/1.1"));
  EXPECT_THAT(proxy.last, HasSubstr("Proxy-Authorization: Basic "));
}

TEST(WebhookSink, TheEnvironmentTurnsNoProxyOff) {
  const Answering proxy("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  auto settings = webhook_settings("http://alerts.invalid/hook");
  settings.options["proxy"] = "http://127.0.0.1:" + proxy.server.port();
  ::setenv("no_proxy", "*", 1);
  const auto sent = must_make(settings)->send(make_alert("x"), {});
  ::unsetenv("no_proxy");
  EXPECT_TRUE(sent) << sent.error().message;
  EXPECT_THAT(proxy.last, HasSubstr("POST http://alerts.invalid/hook HTTP/1.1"));
}

TEST(WebhookSink, ASecretThatAnAnswerRepeatsIsHiddenWhereItIsCutAndAsItWasSent) {
  SmallServer echo([](int fd) {
    const auto request = read_request(fd);
    const auto basic = request.substr(request.find("Proxy-Authorization: Basic "), 60);
    const auto bearer = request.substr(request.find("Bearer "), 60);
    // The token begins before the 200 bytes that are kept, and ends behind them.
    std::string said = "no: " + basic.substr(0, basic.find('\r')) + " and p@ss/w0rd ";
    said += std::string(185 - said.size(), '.') + bearer;
    send_all(fd, "HTTP/1.1 400 Bad\r\nContent-Length: " + std::to_string(said.size()) + "\r\n\r\n" + said);
  });
  ::setenv("A_PROXY", ("http://ann:p%40ss%2Fw0rd@127.0.0.1:" + echo.port()).c_str(), 1);
  ::setenv("A_BEARER_TOKEN", "t0ken-of-the-test", 1);
  auto settings = webhook_settings("http://alerts.invalid/hook");
  settings.secrets["proxy"] = {Kind::env, "A_PROXY"};
  settings.secrets["bearer_token"] = {Kind::env, "A_BEARER_TOKEN"};
  const auto refused = must_make(settings)->send(make_alert("x"), {});
  ASSERT_FALSE(refused);
  const auto& message = refused.error().message;
  EXPECT_THAT(message, HasSubstr("Bearer ***"));
  for (const char* secret : {"t0ken", "p@ss", "YW5uOnBAc3Mv"}) EXPECT_THAT(message, Not(HasSubstr(secret)));
}

TEST(WebhookSink, ItsKeysAreCheckedWhenTheConfigurationIsRead) {
  register_sink_types();
  config::Sources sources;
  const auto problem = [&](const std::string& keys) {
    sources.environment = {{"HOME", "/nonexistent"}};
    sources.home = "/nonexistent";
    sources.etc = "/nonexistent";
    sources.set = {"alerting.sinks=[{type: webhook, " + keys + "}]"};
    const auto loaded = config::load(sources);
    std::string text;
    if (!loaded) {
      for (const auto& one : loaded.error()) text += config::to_string(one) + '\n';
    }
    return text;
  };
  EXPECT_EQ(problem("url: 'https://a.example/x', headers: {X-A: b, X-C: {env: D}}"), "");
  EXPECT_EQ(problem("url: {credential: hook}"), "");
  EXPECT_THAT(problem("url: 'ftp://a.example'"), HasSubstr("must begin with https://"));
  EXPECT_THAT(problem("url: 'a.example'"), HasSubstr("not a URL"));
  for (const char* url : {"https://ann:hunter2@a.example/", "https://a.example/?token=hunter2"}) {
    const auto text = problem("url: '" + std::string(url) + "'");
    EXPECT_THAT(text, HasSubstr("give it as {env: NAME}"));
    EXPECT_THAT(text, Not(HasSubstr("hunter2")));
  }
  for (const char* name : {"Authorization", "X-Api-Key", "Cookie", "X-Auth-Token", "x-hub-signature"}) {
    const auto text = problem("url: 'https://a/', headers: {" + std::string(name) + ": hunter2}");
    EXPECT_THAT(text, HasSubstr("give it as {env: NAME}")) << name;
    EXPECT_THAT(text, Not(HasSubstr("hunter2")));
    EXPECT_EQ(problem("url: 'https://a/', headers: {" + std::string(name) + ": {env: D}}"), "");
  }
  EXPECT_THAT(problem("url: 'https://a/', headers: {'X A': b}"), HasSubstr("no name of a header"));
  EXPECT_THAT(problem("url: 'https://a/', headers: {X-A: \"b\\r\\nX: y\"}"), HasSubstr("control character"));
  EXPECT_THAT(problem("url: 'https://a/', headers: {Content-Length: '3'}"), HasSubstr("made by the sink itself"));
  EXPECT_THAT(problem("url: 'https://a/', bearer_token: hunter2"), HasSubstr("never inline"));
  EXPECT_THAT(problem("url: 'https://a/', format: template, template: '{{nope}}'"), HasSubstr("unknown field 'nope'"));
  EXPECT_THAT(problem("url: 'https://a/', timeout_ms: 1"), HasSubstr("an integer from 10 to 300000"));
}

TEST(RetryAfter, IsSecondsOrADateInAnyFormOfHttp) {
  const Timestamp now{1'792'567'680'000'000'000};  // Wed, 21 Oct 2026 07:28:00 GMT
  EXPECT_EQ(parse_retry_after("120", now), 120s);
  EXPECT_EQ(parse_retry_after(" 0 ", now), 0s);
  EXPECT_EQ(parse_retry_after("99999999999999999999999", now), longest_retry_after);
  EXPECT_EQ(parse_retry_after("Wed, 21 Oct 2026 07:30:00 GMT", now), 120s);
  EXPECT_EQ(parse_retry_after("Wednesday, 21-Oct-26 07:30:00 GMT", now), 120s);
  EXPECT_EQ(parse_retry_after("Wed Oct 21 07:30:00 2026", now), 120s);
  EXPECT_EQ(parse_retry_after("Wed, 21 Oct 2020 07:30:00 GMT", now), 0s);
  for (const char* bad :
       {"", "-1", "1.5", "soon", "Wed, 21 Oct 2026 07:30:00 CET", "Wed, 21 Oct 2026 07:30:00 GMT x"}) {
    EXPECT_FALSE(parse_retry_after(bad, now)) << bad;
  }
}

}  // namespace
}  // namespace daemoneye::alert::testing
