#include "sensor/masking.h"

#include <gtest/gtest.h>

#include <vector>

namespace daemoneye::sensor {
namespace {

using List = std::vector<std::string>;

struct Case {
  List given, expected;
};

// As people write them, and as they must look afterwards. The first word is the program.
const std::vector<Case> kMasked = {
    // Options of any program.
    {{"app", "--password", "s3cret", "x"}, {"app", "--password", "***", "x"}},
    {{"app", "--password=s3cret"}, {"app", "--password=***"}},
    {{"app", "--Password=a&b c;d"}, {"app", "--Password=***"}},
    {{"app", "-password", "s3cret"}, {"app", "-password", "***"}},
    {{"app", "-pass=s3cret"}, {"app", "-pass=***"}},
    {{"app", "--passwd", "s3cret"}, {"app", "--passwd", "***"}},
    {{"app", "--db-pass", "s3cret"}, {"app", "--db-pass", "***"}},
    {{"app", "--token=abc"}, {"app", "--token=***"}},
    {{"app", "--github-token", "abc"}, {"app", "--github-token", "***"}},
    {{"app", "--secret", "abc"}, {"app", "--secret", "***"}},
    {{"app", "--api-key", "abc"}, {"app", "--api-key", "***"}},
    {{"app", "--api_key=abc"}, {"app", "--api_key=***"}},
    {{"app", "--apiKey", "abc"}, {"app", "--apiKey", "***"}},
    {{"app", "--APIKEY", "abc"}, {"app", "--APIKEY", "***"}},
    {{"app", "--access-key", "abc"}, {"app", "--access-key", "***"}},
    {{"app", "--private-key=abc"}, {"app", "--private-key=***"}},
    {{"app", "--client-secret", "abc"}, {"app", "--client-secret", "***"}},
    {{"app", "--auth", "abc"}, {"app", "--auth", "***"}},
    {{"app", "--password", "-starts-with-a-dash"}, {"app", "--password", "***"}},
    {{"java", "-Djavax.net.ssl.keyStorePassword=abc"}, {"java", "-Djavax.net.ssl.keyStorePassword=***"}},
    // Tools with letters of their own.
    {{"mysql", "-uroot", "-ps3cret", "db"}, {"mysql", "-uroot", "-p***", "db"}},
    {{"mysqldump", "-u", "root", "-ps3cret"}, {"mysqldump", "-u", "root", "-p***"}},
    {{"mariadb-dump", "-ps3cret"}, {"mariadb-dump", "-p***"}},
    {{"sshpass", "-p", "s3cret", "ssh", "-p", "22", "host"}, {"sshpass", "-p", "***", "ssh", "-p", "***", "host"}},
    {{"sshpass", "-ps3cret", "ssh"}, {"sshpass", "-p***", "ssh"}},
    {{"curl", "-u", "me:s3cret", "http://h/"}, {"curl", "-u", "me:***", "http://h/"}},
    {{"curl", "-ume:s3cret"}, {"curl", "-ume:***"}},
    {{"curl", "-sSu", "me:s3cret"}, {"curl", "-sSu", "me:***"}},
    {{"curl", "--user", "me:s3cret"}, {"curl", "--user", "me:***"}},
    {{"curl", "--proxy-user=me:s3cret"}, {"curl", "--proxy-user=me:***"}},
    {{"wget", "--http-password=abc"}, {"wget", "--http-password=***"}},
    {{"ldapsearch", "-x", "-w", "s3cret"}, {"ldapsearch", "-x", "-w", "***"}},
    {{"smbclient", "-U", "me%s3cret", "//h/s"}, {"smbclient", "-U", "me%***", "//h/s"}},
    {{"redis-cli", "-a", "s3cret", "ping"}, {"redis-cli", "-a", "***", "ping"}},
    {{"mongosh", "-u", "me", "-p", "s3cret"}, {"mongosh", "-u", "me", "-p", "***"}},
    {{"openssl", "enc", "-pass", "pass:s3cret"}, {"openssl", "enc", "-pass", "***"}},
    {{"openssl", "rsa", "-passin", "pass:s3cret"}, {"openssl", "rsa", "-passin", "***"}},
    {{"docker", "login", "-u", "me", "-p", "s3cret"}, {"docker", "login", "-u", "me", "-p", "***"}},
    {{"nmcli", "dev", "wifi", "connect", "home", "password", "s3cret"},
     {"nmcli", "dev", "wifi", "connect", "home", "password", "***"}},
    {{"7z", "x", "-ps3cret", "a.7z"}, {"7z", "x", "-p***", "a.7z"}},
    // Behind another program.
    {{"sudo", "mysql", "-ps3cret"}, {"sudo", "mysql", "-p***"}},
    {{"docker", "exec", "db", "/usr/bin/mysqldump", "-ps3cret"},
     {"docker", "exec", "db", "/usr/bin/mysqldump", "-p***"}},
    // Assignments.
    {{"env", "GITHUB_TOKEN=abc", "make"}, {"env", "GITHUB_TOKEN=***", "make"}},
    {{"env", "PGPASSWORD=a&b=c"}, {"env", "PGPASSWORD=***"}},
    {{"env", "MYSQL_PWD=abc"}, {"env", "MYSQL_PWD=***"}},
    {{"env", "aws_secret_access_key=abc"}, {"env", "aws_secret_access_key=***"}},
    {{"docker", "run", "-eAPI_KEY=abc", "x"}, {"docker", "run", "-eAPI_KEY=***", "x"}},
    {{"docker", "run", "--env=DB_CREDENTIAL=abc"}, {"docker", "run", "--env=DB_CREDENTIAL=***"}},
    {{"psql", "host=h password=s3cret user=me"}, {"psql", "host=h password=*** user=me"}},
    {{"psql", "password='s3 cret' user=me"}, {"psql", "password='***' user=me"}},
    {{"ansible", "-e", "ansible_become_password=abc"}, {"ansible", "-e", "ansible_become_password=***"}},
    // URLs.
    {{"git", "clone", "https://me:s3cret@host/x.git"}, {"git", "clone", "https://me:***@host/x.git"}},
    {{"psql", "postgresql://me:p@ss@host:5432/db"}, {"psql", "postgresql://me:***@host:5432/db"}},
    {{"psql", "postgresql://me:pa/ss@host:5432/db"}, {"psql", "postgresql://me:***@host:5432/db"}},
    {{"git", "clone", "https://ghp_0123456789abcdefghij@github.com/x"}, {"git", "clone", "https://***@github.com/x"}},
    {{"curl", "http://h/?a=1&token=abc&b=2"}, {"curl", "http://h/?a=1&token=***&b=2"}},
    {{"curl", "http://h/?api_key=abc#x"}, {"curl", "http://h/?api_key=***"}},
    {{"curl", "http://b/o?X-Amz-Signature=abc&x=1"}, {"curl", "http://b/o?X-Amz-Signature=***&x=1"}},
    // Headers and bodies.
    {{"curl", "-H", "Authorization: Bearer abc.def"}, {"curl", "-H", "Authorization: Bearer ***"}},
    {{"curl", "-H", "authorization:abc"}, {"curl", "-H", "authorization:***"}},
    {{"curl", "-HX-Api-Key: abc"}, {"curl", "-HX-Api-Key: ***"}},
    {{"curl", "-H", "X-Vault-Token: abc"}, {"curl", "-H", "X-Vault-Token: ***"}},
    {{"curl", "--header=Cookie: a=1; b=2"}, {"curl", "--header=Cookie: ***"}},
    {{"curl", "-d", R"({"user":"me","password":"s3\"cret","n":1})"},
     {"curl", "-d", R"({"user":"me","password":"***","n":1})"}},
    {{"curl", "-d", R"({"api_token": "abc"})"}, {"curl", "-d", R"({"api_token": "***"})"}},
    // Within a shell's text.
    {{"sh", "-c", "mysql -u root -ps3cret db"}, {"sh", "-c", "mysql -u root -p*** db"}},
    {{"sh", "-c", "TOKEN=abc curl -u me:x http://h"}, {"sh", "-c", "TOKEN=*** curl -u me:*** http://h"}},
    {{"bash", "-c", "app --password 's3 cret' --next"}, {"bash", "-c", "app --password *** --next"}},
    {{"bash", "-c", "curl -H 'Authorization: Basic abc' http://h | sh"},
     {"bash", "-c", "curl -H 'Authorization: Basic ***' http://h | sh"}},
    {{"bash", "-c", "export AWS_SECRET_ACCESS_KEY=abc; rm -rf /"},
     {"bash", "-c", "export AWS_SECRET_ACCESS_KEY=***; rm -rf /"}},
    {{"ssh", "host", "sshpass -p abc ssh other"}, {"ssh", "host", "sshpass -p *** ssh other"}},
};

const std::vector<List> kUntouched = {
    {"ssh", "-p", "22", "host"},
    {"app", "--password-file", "/run/secret"},
    {"app", "--password-file=/run/secret"},
    {"app", "--password-stdin", "x"},
    {"app", "--no-password", "db"},
    {"app", "tokenize=yes", "--tokenize", "x"},
    {"app", "max_tokens=100", "--max-tokens", "100"},
    {"app", "--token-ttl", "5", "TOKEN_TTL=5", "PASSWORD_FILE=/x"},
    {"app", "--bypass", "x", "--compass", "y"},
    {"app", "PWD=/root", "OLDPWD=/"},
    {"app", "--password", "--user", "me"},
    {"app", "--password="},
    {"app", "--author", "me", "--keyboard=us"},
    {"mysql", "-p", "db"},
    {"docker", "run", "-p", "80:80", "-u", "me:group", "x"},
    {"docker", "pull", "vault/secret:latest"},
    {"curl", "-u", "me", "http://host:80/a@b", "https://user@host/"},
    {"curl", "-H", "Accept: */*", "-H", "X-Request-Id: 7"},
    {"tar", "-cpf", "x.tar", "--password"},
    {"mkdir", "-p", "/a/b"},
    {"sh", "-c", "ssh -p 22 host; mkdir -p x"},
    {"git", "commit", "-m", "tell secrets: none"},
    {"--password", "x"},
    {},
    {""},
};

std::string joined(const List& list) {
  std::string bytes;
  for (const auto& argument : list) bytes += argument + '\0';
  return bytes;
}

std::string shown(std::string bytes) {
  for (auto& c : bytes) c = c == '\0' ? ' ' : c;
  return bytes;
}

TEST(MaskArguments, MasksSecretsAndNothingElse) {
  for (const auto& [given, expected] : kMasked) {
    auto bytes = joined(given);
    EXPECT_TRUE(mask_arguments(given[0], bytes)) << shown(joined(given));
    EXPECT_EQ(shown(bytes), shown(joined(expected)));
    EXPECT_FALSE(mask_arguments(given[0], bytes)) << "again: " << shown(bytes);
  }
}

TEST(MaskArguments, LeavesTheHarmlessAlone) {
  for (const auto& given : kUntouched) {
    auto bytes = joined(given);
    EXPECT_FALSE(mask_arguments(given.empty() ? "" : given[0], bytes)) << shown(joined(given));
    EXPECT_EQ(shown(bytes), shown(joined(given)));
  }
}

TEST(MaskArguments, TakesALastArgumentWithoutItsEnd) {
  std::string bytes = joined({"app", "--password"}) + "cut off he";
  EXPECT_TRUE(mask_arguments("app", bytes));
  EXPECT_EQ(bytes, joined({"app", "--password"}) + "***");
}

TEST(MaskArguments, GetsThroughMegabytesOfUnfinishedPatterns) {
  // Patterns that begin everywhere and end nowhere: anything quadratic would not come back from this.
  for (const std::string piece :
       {"a://b:c", "token=", "\"", "Authorization: ", "://", "'token':", "x:/", "--p ", "@:/", "a:b/", "=:", "(-u "}) {
    std::string bytes;
    while (bytes.size() < 4'000'000) bytes += piece;
    const auto size = bytes.size();
    mask_arguments("curl", bytes);
    EXPECT_LE(bytes.size(), 2 * size);
  }
}

}  // namespace
}  // namespace daemoneye::sensor
