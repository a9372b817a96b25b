#include "alert/sinks/secrets.h"

#include <gmock/gmock.h>

#include "alert/alert_test_util.h"

namespace daemoneye::alert::testing {
namespace {

using config::SecretReference;
using ::testing::HasSubstr;
using Kind = SecretReference::Kind;

config::SinkSettings with(const std::string& key, Kind kind, const std::string& where) {
  config::SinkSettings settings;
  settings.type = settings.name = "hook";
  settings.secrets[key] = {kind, where};
  return settings;
}

void write(const std::string& path, const std::string& text, unsigned mode) {
  std::ofstream(path, std::ios::binary) << text;
  std::filesystem::permissions(path, std::filesystem::perms(mode));
}

std::string problem_of(const config::SinkSettings& settings) {
  const auto secrets = Secrets::resolve(settings);
  return secrets ? "(no problem)" : secrets.error().message;
}

TEST(Secrets, ComeFromEnvironmentFileAndCredential) {
  TempFolder folder;
  ::setenv("A_TEST_SECRET", "of the environment", 1);
  EXPECT_EQ(Secrets::resolve(with("k", Kind::env, "A_TEST_SECRET"))->get("k"), "of the environment");
  write(folder.file("secret"), "of the file\n", 0640);
  EXPECT_EQ(Secrets::resolve(with("k", Kind::file, folder.file("secret")))->get("k"), "of the file");
  ::setenv("CREDENTIALS_DIRECTORY", folder.path().c_str(), 1);
  EXPECT_EQ(Secrets::resolve(with("k", Kind::credential, "secret"))->get("k"), "of the file");
  ::unsetenv("CREDENTIALS_DIRECTORY");
  EXPECT_THAT(problem_of(with("k", Kind::credential, "secret")), HasSubstr("CREDENTIALS_DIRECTORY is not set"));
}

TEST(Secrets, TheErrorNamesThePlaceAndNeverTheSecret) {
  TempFolder folder;
  EXPECT_THAT(problem_of(with("token", Kind::env, "NO_SUCH_VARIABLE")),
              HasSubstr("sink hook: secret token: the environment has no variable NO_SUCH_VARIABLE"));
  EXPECT_THAT(problem_of(with("token", Kind::file, folder.file("none"))), HasSubstr(folder.file("none")));
  write(folder.file("open"), "hunter2", 0644);
  const auto open = problem_of(with("token", Kind::file, folder.file("open")));
  EXPECT_THAT(open, HasSubstr("every user may use it"));
  EXPECT_THAT(open, Not(HasSubstr("hunter2")));
  write(folder.file("lines"), "hunter2\r\nX-Forged: 1\n", 0600);
  const auto lines = problem_of(with("token", Kind::file, folder.file("lines")));
  EXPECT_THAT(lines, HasSubstr("control character"));
  EXPECT_THAT(lines, Not(HasSubstr("hunter2")));
  write(folder.file("empty"), "\n", 0600);
  EXPECT_THAT(problem_of(with("token", Kind::file, folder.file("empty"))), HasSubstr("it is empty"));
  write(folder.file("long"), std::string(max_secret_bytes + 1, 'x'), 0600);
  EXPECT_THAT(problem_of(with("token", Kind::file, folder.file("long"))), HasSubstr("longer than"));
  EXPECT_THAT(problem_of(with("token", Kind::file, folder.path())), HasSubstr("not a regular file"));
}

TEST(Secrets, AreTakenOutOfMessages) {
  ::setenv("A_TEST_SECRET", "abc", 1);
  auto secrets = *Secrets::resolve(with("k", Kind::env, "A_TEST_SECRET"));
  secrets.hide("abcdef");
  EXPECT_EQ(secrets.clean("see abc, abcdef and abcabc"), "see ***, *** and ******");
}

TEST(Secrets, AreTakenOutWhereATextWasCutAndAsLoginsAreSent) {
  Secrets secrets;
  secrets.hide("t0ken-of-the-test");
  EXPECT_EQ(secrets.clean("Bearer t0ken-of-the-tes"), "Bearer ***");
  EXPECT_EQ(secrets.clean("Bearer t0k"), "Bearer ***");
  EXPECT_EQ(secrets.clean("Bearer t0"), "Bearer t0") << "tells nothing";
  secrets.hide_login("ann", "p@ss");
  for (const char* form : {"p@ss", "ann:p@ss", "YW5uOnBAc3M=", "AGFubgBwQHNz", "cEBzcw=="}) {
    EXPECT_EQ(secrets.clean(std::string("<") + form + ">"), "<***>") << form;
  }
}

TEST(Secrets, AreTakenOutBeforeAnythingIsEscapedOrCut) {
  Secrets secrets;
  secrets.hide("s\xc3\x28\xa0t");  // no UTF-8: it would be escaped
  EXPECT_EQ(secrets.shown("  a s\xc3\x28\xa0t\x1b[2J \n", 100), "a ***\\x1b[2J");
  EXPECT_EQ(secrets.shown("abcdef s\xc3\x28\xa0t", 9), "abcdef **");
  EXPECT_EQ(secrets.shown("ab\xc3\xa4", 3), "ab") << "no half character";
}

}  // namespace
}  // namespace daemoneye::alert::testing
