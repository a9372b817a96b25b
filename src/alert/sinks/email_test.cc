#include <gmock/gmock.h>
#include <openssl/evp.h>

#include "alert/sinks/mail_message.h"
#include "alert/sinks/peer_test_util.h"
#include "alert/sinks/sinks.h"
#include "alert/sinks/smtp_dialogue.h"

namespace daemoneye::alert::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using Kind = config::SecretReference::Kind;

config::SinkSettings email_settings(const std::string& port, const std::string& to = "ops@daemoneye.example") {
  config::SinkSettings settings;
  settings.type = settings.name = "email";
  settings.options = {
      {"host", "localhost"}, {"port", port}, {"from", "daemoneye@host.example"}, {"timeout_ms", "5000"}};
  settings.lists["to"] = {to};
  return settings;
}

config::SinkSettings starttls_settings(const Peer& peer, const std::string& to = "ops@daemoneye.example") {
  auto settings = email_settings(peer["port"], to);
  settings.options["ca_file"] = peer["ca"];
  settings.options["username"] = peer["user"];
  ::setenv("A_MAIL_PASSWORD", peer["password"].c_str(), 1);
  settings.secrets["password"] = {Kind::env, "A_MAIL_PASSWORD"};
  return settings;
}

std::string unbase64(std::string text) {
  std::erase_if(text, [](char c) { return c == '\r' || c == '\n'; });
  std::string out(text.size() + 1, '\0');
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (size < 0) return "(not base64)";
  out.resize(static_cast<std::size_t>(size) - static_cast<std::size_t>(std::ranges::count(text, '=')));
  return out;
}

std::string header_of(const std::string& mail, const std::string& name) {
  const std::string head = "\r\n" + mail.substr(0, mail.find("\r\n\r\n")) + "\r\n";
  auto at = head.find("\r\n" + name + ": ");
  if (at == std::string::npos) return {};
  at += name.size() + 4;
  auto end = head.find("\r\n", at);
  while (end != std::string::npos && head[end + 2] == ' ') end = head.find("\r\n", end + 2);
  return head.substr(at, end - at);
}

std::string part_of(const std::string& mail, const std::string& type) {
  const auto at = mail.find("\r\n\r\n", mail.find("Content-Type: " + type)) + 4;
  return unbase64(mail.substr(at, mail.find("\r\n--", at) - at));
}

TEST(MailMessage, HasTextAndHtmlAndAnIdOfTheAlert) {
  const auto mail = mail_message(make_alert("a1b2"), {"from@host.example", {"a@x.example", "b@y.example"}, "[D] "},
                                 "the text", "<p>the html</p>");
  EXPECT_EQ(header_of(mail, "From"), "from@host.example");
  EXPECT_EQ(header_of(mail, "To"), "a@x.example,\r\n b@y.example");
  EXPECT_EQ(header_of(mail, "Subject"), "[D] HIGH: Something happened (web1)");
  EXPECT_EQ(header_of(mail, "Message-ID"), "<a1b2@host.example>");
  EXPECT_EQ(header_of(mail, "Date"), "Fri, 15 Jan 2027 08:00:00 +0000");
  EXPECT_EQ(header_of(mail, "Auto-Submitted"), "auto-generated");
  EXPECT_EQ(part_of(mail, "text/plain"), "the text");
  EXPECT_EQ(part_of(mail, "text/html"), "<p>the html</p>");
}

TEST(MailMessage, NothingInAnAlertBecomesAHeader) {
  auto alert = make_alert("id\r\nBcc: x@y");
  alert.title = "evil\r\nBcc: victim@x.example\r\n\r\nbody \xff";
  alert.rule_id = "r\r\nBcc: z";
  alert.host = "h\r\nBcc: w";
  const auto mail = mail_message(alert, {"f@x", {"t@x"}, ""}, std::string(5000, 'x') + "\r\n.\r\nQUIT", "\r\n.\r\n");
  EXPECT_EQ(header_of(mail, "Bcc"), "");
  EXPECT_THAT(mail, Not(HasSubstr("\nBcc")));
  EXPECT_THAT(mail, Not(HasSubstr("\r\n.\r\n")));
  std::istringstream lines(mail);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 998U);
}

TEST(MailMessage, EncodesASubjectByRfc2047) {
  EXPECT_EQ(encoded_subject("plain"), "plain");
  EXPECT_EQ(encoded_subject("ü"), "=?UTF-8?B?w7w=?=");
  std::string text;
  for (int i = 0; i < 300; ++i) text += "ä";
  const auto subject = encoded_subject(text);
  std::istringstream lines(subject);
  std::string whole;
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with('\r')) line.pop_back();
    EXPECT_LE(line.size(), 76U);
    const auto begin = line.find("?B?") + 3;
    whole += unbase64(line.substr(begin, line.find("?=", begin) - begin));
  }
  EXPECT_LE(whole.size(), max_subject_bytes + 3);
  EXPECT_TRUE(whole.ends_with("ä…"));
  EXPECT_EQ(encoded_subject("=?x?="), "=?UTF-8?B?PT94Pz0=?=");
}

TEST(MailMessage, KnowsAddresses) {
  for (const char* good : {"a@b", "first.last+tag@mail.example.org"}) EXPECT_TRUE(is_mail_address(good)) << good;
  for (const char* bad :
       {"", "a", "@b", "a@", "a b@c", "a@b>", "<a@b>", "a@b\r\nRCPT TO:<c@d>", "a,b@c", "a@b c", "ä@b"}) {
    EXPECT_FALSE(is_mail_address(bad)) << bad;
  }
}

// ---- aiosmtpd ----

TEST(EmailSink, ReachesAServerByStarttlsWithALogin) {
  const Peer peer("smtp");
  auto settings = starttls_settings(peer);
  settings.lists["to"] = {"ops@daemoneye.example", "second@daemoneye.example"};
  auto sink = must_make(settings);
  ASSERT_TRUE(sink);
  auto alert = make_alert("mail-1");
  alert.command_line = "evil <b>bold</b> & \"quoted\"\r\n.\r\nQUIT";
  for (int i = 0; i < 2; ++i) {
    const auto sent = sink->send(alert, {});
    ASSERT_TRUE(sent) << sent.error().message;
    EXPECT_EQ(sent->response_code, 250);
  }
  const auto received = peer.wait_received(2);
  const auto& first = received.at(0);
  EXPECT_EQ(first.at("tls"), true);
  EXPECT_EQ(first.at("login"), true);
  EXPECT_EQ(first.at("from"), "daemoneye@host.example");
  EXPECT_EQ(first.at("to"), (nlohmann::json{"ops@daemoneye.example", "second@daemoneye.example"}));
  const auto mail = unbase64(first.at("content"));
  EXPECT_EQ(header_of(mail, "Message-ID"), "<mail-1@host.example>");
  EXPECT_THAT(part_of(mail, "text/plain"), HasSubstr("evil <b>bold</b>"));
  EXPECT_THAT(part_of(mail, "text/html"), HasSubstr("&lt;b&gt;bold"));
  EXPECT_EQ(received.at(1).at("peer_port"), first.at("peer_port"));  // one connection
}

TEST(EmailSink, ReachesAServerThatSpeaksTlsFromTheFirstByte) {
  const Peer peer("smtp-tls");
  auto settings = starttls_settings(peer);
  settings.options["security"] = "tls";
  const auto sent = must_make(settings)->send(make_alert("x"), {});
  ASSERT_TRUE(sent) << sent.error().message;
  EXPECT_EQ(peer.wait_received(1).at(0).at("login"), true);
  settings.options["ca_file"] = peer["other_ca"];
  const auto unverified = must_make(settings)->send(make_alert("y"), {});
  ASSERT_FALSE(unverified);
  EXPECT_FALSE(unverified.error().permanent);
  EXPECT_EQ(peer.received().size(), 1U);
}

TEST(EmailSink, A5xxIsPermanentAndA4xxIsNot) {
  const Peer peer("smtp");
  const auto never = must_make(starttls_settings(peer, "nobody@daemoneye.example"))->send(make_alert("x"), {});
  ASSERT_FALSE(never);
  EXPECT_TRUE(never.error().permanent) << never.error().message;
  EXPECT_EQ(never.error().response_code, 550);
  EXPECT_THAT(never.error().message, HasSubstr("no such mailbox"));
  const auto later = must_make(starttls_settings(peer, "later@daemoneye.example"))->send(make_alert("x"), {});
  ASSERT_FALSE(later);
  EXPECT_FALSE(later.error().permanent) << later.error().message;
  EXPECT_EQ(later.error().response_code, 451);
}

TEST(EmailSink, OneRecipientThatIsRefusedDoesNotKeepTheMailFromTheOthers) {
  const Peer peer("smtp");
  auto settings = starttls_settings(peer);
  settings.lists["to"] = {"nobody@daemoneye.example", "ops@daemoneye.example"};
  auto sink = must_make(settings);
  const auto sent = sink->send(make_alert("x"), {});
  ASSERT_TRUE(sent) << sent.error().message;
  EXPECT_EQ(peer.wait_received(1).at(0).at("to"), nlohmann::json{"ops@daemoneye.example"});
  EXPECT_THAT(sink->health_check().warning, HasSubstr("<nobody@daemoneye.example>: 550 5.1.1 no such mailbox"));
  EXPECT_TRUE(sink->health_check().healthy);
}

TEST(EmailSink, SendsNothingUnverifiedAndAWrongPasswordIsNotShown) {
  const Peer peer("smtp");
  auto other_ca = starttls_settings(peer);
  other_ca.options["ca_file"] = peer["other_ca"];
  const auto unverified = must_make(other_ca)->send(make_alert("x"), {});
  ASSERT_FALSE(unverified);
  EXPECT_FALSE(unverified.error().permanent);
  auto wrong = starttls_settings(peer);
  ::setenv("A_WRONG_PASSWORD", "wr0ng-password", 1);
  wrong.secrets["password"] = {Kind::env, "A_WRONG_PASSWORD"};
  const auto refused = must_make(wrong)->send(make_alert("x"), {});
  ASSERT_FALSE(refused);
  EXPECT_FALSE(refused.error().permanent) << refused.error().message;
  EXPECT_THAT(refused.error().message, Not(HasSubstr("wr0ng-password")));
  EXPECT_TRUE(peer.received().empty());
}

// ---- odd peers ----

TEST(EmailSink, AServerWithoutStarttlsGetsNothing) {
  std::atomic<bool> mailed{false};
  SmallServer server([&](int fd) {
    send_all(fd, "220 plain\r\n");
    char buffer[512];
    for (ssize_t size = 0; (size = ::recv(fd, buffer, sizeof buffer, 0)) > 0;) {
      if (std::string_view(buffer, static_cast<std::size_t>(size)).starts_with("MAIL")) mailed = true;
      if (!send_all(fd, "250 OK\r\n")) return;
    }
  });
  const auto result = must_make(email_settings(server.port()))->send(make_alert("x"), {});
  ASSERT_FALSE(result);
  EXPECT_FALSE(result.error().permanent);
  EXPECT_FALSE(mailed);
}

TEST(EmailSink, ARefusalBeforeTheMailIsNotPermanent) {
  SmallServer server([](int fd) {
    send_all(fd, "554 not from there\r\n");
    read_to_end(fd);
  });
  auto settings = email_settings(server.port());
  settings.options["security"] = "none";
  const auto refused = must_make(settings)->send(make_alert("x"), {});
  ASSERT_FALSE(refused);
  EXPECT_FALSE(refused.error().permanent) << refused.error().message;
}

TEST(SmtpDialogue, KnowsWhatARefusalIsAbout) {
  const auto after = [](const std::vector<std::string>& lines) {
    SmtpDialogue dialogue;
    for (const auto& line : lines) {
      if (line.starts_with("> "))
        dialogue.command(line.substr(2) + "\r\n");
      else
        dialogue.answer(line + "\r\n");
    }
    return dialogue;
  };
  const auto for_good = [&](const std::vector<std::string>& lines) { return after(lines).refused_for_good(); };
  EXPECT_FALSE(for_good({"220 hello", "> EHLO a", "554 no"}));
  EXPECT_FALSE(for_good({"> AUTH PLAIN x", "535 5.7.8 wrong"}));
  EXPECT_FALSE(for_good({"> MAIL FROM:<a>", "550 not you"})) << "the sender is for the operator to mend";
  EXPECT_TRUE(for_good({"> MAIL FROM:<a> SIZE=9", "552 too large"}));
  EXPECT_TRUE(for_good({"> MAIL FROM:<a>", "250 ok", "> RCPT TO:<b>", "550-no", "550 such user"}));
  EXPECT_FALSE(for_good({"> MAIL FROM:<a>", "250 ok", "> RCPT TO:<b>", "550 no", "> RCPT TO:<c>", "451 later"}));
  EXPECT_FALSE(for_good({"> MAIL FROM:<a>", "250 ok", "> RCPT TO:<b>", "451 later", "> RCPT TO:<c>", "550 no"}));
  const std::vector<std::string> partly{"> MAIL FROM:<a>", "250 ok", "> RCPT TO:<b>", "550 no",
                                        "> RCPT TO:<c>",   "250 ok", "> DATA",        "354 go"};
  EXPECT_FALSE(for_good(partly));
  EXPECT_EQ(after(partly).refused_recipients().size(), 1U);
  EXPECT_TRUE(for_good({"> MAIL FROM:<a>", "250 ok", "> RCPT TO:<b>", "550 no", "> QUIT", "221 bye"}));
  auto rejected = partly;
  rejected.emplace_back("554 it is spam");
  EXPECT_TRUE(for_good(rejected));
  EXPECT_EQ(after(rejected).last_refusal(), "554 it is spam\r\n");
  EXPECT_FALSE(for_good({"> MAIL FROM:<a>", "250 ok", "> RCPT TO:<b>", "55", "5x0 what", ""}));
  std::vector<std::string> many{"> MAIL FROM:<a>"};
  for (int i = 0; i < 50; ++i) many.insert(many.end(), {"> RCPT TO:<" + std::string(500, 'x') + ">", "550 no"});
  EXPECT_EQ(after(many).refused_recipients().size(), SmtpDialogue::max_refused);
}

TEST(EmailSink, AServerThatSaysNothingEndsWithTheTimeOutAndWithTheStop) {
  std::atomic<bool> end{false};
  SmallServer server([&](int) {
    while (!end) std::this_thread::sleep_for(5ms);
  });
  auto settings = email_settings(server.port());
  settings.options["timeout_ms"] = "200";
  EXPECT_FALSE(must_make(settings)->send(make_alert("x"), {}));
  settings.options["timeout_ms"] = "300000";
  auto patient = must_make(settings);
  std::stop_source stop;
  std::thread sender([&] { EXPECT_FALSE(patient->send(make_alert("x"), stop.get_token())); });
  stop.request_stop();
  sender.join();
  end = true;
}

TEST(EmailSink, UnencryptedIsWarnedOfAndTakesNoPassword) {
  auto settings = email_settings("2525");
  settings.options["security"] = "none";
  EXPECT_THAT(must_make(settings)->health_check().warning, HasSubstr("unencrypted"));
  settings.options["username"] = "ann";
  ::setenv("A_MAIL_PASSWORD", "x", 1);
  settings.secrets["password"] = {Kind::env, "A_MAIL_PASSWORD"};
  const auto refused = make_sink(settings);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("a password needs security starttls or tls"));
  settings.secrets.clear();
  EXPECT_FALSE(make_sink(settings));
}

}  // namespace
}  // namespace daemoneye::alert::testing
