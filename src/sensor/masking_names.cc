#include "sensor/masking_names.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace daemoneye::sensor {
namespace {

constexpr std::size_t kMaxWords = 16;
constexpr std::size_t kMaxName = 128;  // of a longer name the end counts

// A word that is, or ends with, one of these names a secret: PGPASSWORD, authtoken.
constexpr std::array<std::string_view, 12> kSecretEndings = {"password",   "passwd",    "passphrase", "passcode",
                                                             "token",      "secret",    "apikey",     "accesskey",
                                                             "privatekey", "secretkey", "credential", "credentials"};
// These only as whole words: bypass and compass name no secret.
constexpr std::array<std::string_view, 3> kSecretWords = {"pass", "passin", "passout"};
// "api key" and its kind, as two words.
constexpr std::array<std::string_view, 7> kKeyKinds = {"api",    "access",  "private",   "secret",
                                                       "master", "signing", "encryption"};
// A name that ends so speaks of a secret but does not hold it.
constexpr std::array<std::string_view, 22> kHarmlessEndings = {
    "file", "path", "dir",   "url",     "uri", "name",   "type", "ttl",    "length",  "len",   "count",
    "size", "fd",   "stdin", "timeout", "env", "policy", "ttl",  "expiry", "expires", "limit", "prompt"};
// A switch, not a value.
constexpr std::array<std::string_view, 6> kSwitchBeginnings = {"no", "ask", "prompt", "show", "without", "require"};

constexpr std::array<std::string_view, 11> kSecretHeaders = {
    "authorization", "proxy-authorization", "cookie",        "set-cookie",    "x-api-key", "api-key",
    "apikey",        "x-auth-token",        "private-token", "x-vault-token", "x-auth-key"};

template <std::size_t N>
bool any_of(const std::array<std::string_view, N>& list, std::string_view word) {
  return std::ranges::find(list, word) != list.end();
}

constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_lower(char c) { return c >= 'a' && c <= 'z'; }

std::string lower_case(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), lower);
  return out;
}

constexpr std::uint32_t letters(std::string_view text) {
  std::uint32_t found = 0;
  for (const char c : text) {
    const auto letter = static_cast<unsigned>(static_cast<unsigned char>(lower(c))) - 'a';
    if (letter < 26) found |= std::uint32_t{1} << letter;
  }
  return found;
}

// Whether the letters of anything that makes a name secret are in it, in whatever order: of most options they are not.
bool has_letters_of_secret(std::string_view name) {
  static constexpr std::array<std::uint32_t, 7> kinds = {letters("pass"),       letters("token"), letters("secret"),
                                                         letters("credential"), letters("key"),   letters("auth"),
                                                         letters("pwd")};
  const auto found = letters(name);
  return std::ranges::any_of(kinds, [found](std::uint32_t kind) { return (found & kind) == kind; });
}
// Every ending and word above has one of these in it.
constexpr bool has_a_kind(std::string_view word) {
  for (const std::string_view kind : {"pass", "token", "secret", "credential", "key"}) {
    if (word.find(kind) != std::string_view::npos) return true;
  }
  return false;
}
static_assert(std::ranges::all_of(kSecretEndings, has_a_kind) && std::ranges::all_of(kSecretWords, has_a_kind));

bool is_secret_word(std::string_view word) {
  return any_of(kSecretWords, word) ||
         std::ranges::any_of(kSecretEndings, [&](std::string_view ending) { return word.ends_with(ending); });
}

}  // namespace

bool is_name(std::string_view text) { return std::ranges::all_of(text, is_name_character); }

bool is_secret_name(std::string_view name, SecretWord where) {
  while (!name.empty() && name.front() == '-') name.remove_prefix(1);
  if (name.size() > kMaxName) name.remove_prefix(name.size() - kMaxName);
  if (!has_letters_of_secret(name)) return false;
  const std::string text = lower_case(name);
  std::array<std::string_view, kMaxWords> words;
  std::size_t count = 0, begin = 0;
  for (std::size_t i = 0; i <= name.size(); ++i) {
    const bool end = i == name.size();
    const bool separator = !end && (name[i] == '-' || name[i] == '_' || name[i] == '.');
    const bool capital = !end && i > begin && is_upper(name[i]) && is_lower(name[i - 1]);
    if (!end && !separator && !capital) continue;
    if (i > begin && count < kMaxWords) words[count++] = std::string_view(text).substr(begin, i - begin);
    begin = separator ? i + 1 : i;
  }
  if (count == 0) return false;
  const auto last = words[count - 1];
  if (any_of(kHarmlessEndings, last)) return false;
  if (count > 1 && any_of(kSwitchBeginnings, words[0])) return false;
  if (count == 1 && last == "auth") return true;
  if (count > 1 && last == "pwd") return true;  // MYSQL_PWD; PWD itself is a folder
  for (std::size_t i = where == SecretWord::last ? count - 1 : 0; i < count; ++i) {
    if (is_secret_word(words[i])) return true;
    if (i > 0 && words[i] == "key" && any_of(kKeyKinds, words[i - 1])) return true;
  }
  return false;
}

bool is_secret_header(std::string_view name) {
  if (name.size() > kMaxName) return false;
  const auto text = lower_case(name);
  return any_of(kSecretHeaders, std::string_view(text)) ||
         (text.starts_with("x-") && is_secret_name(text, SecretWord::last));
}

struct Tool {
  std::string_view names;  // blank-separated; one that ends with '*' is a prefix
  std::string_view secret, attached_secret, user_and_secret;
  std::string_view after_login = "";
  std::string_view flags = "";
  std::string_view keyword = "";
  char separator = ':';
};

namespace {

constexpr std::array kTools = {
    Tool{.names = "mysql mysqldump mysqladmin mysqlimport mysqlshow mysqlcheck mysqlpump mysqlslap mariadb mariadb-*",
         .secret = "",
         .attached_secret = "p",
         .user_and_secret = ""},
    Tool{.names = "sshpass mongo mongosh mongodump mongorestore mongoexport mongoimport mongostat useradd usermod "
                  "smbmap rdesktop",
         .secret = "p",
         .attached_secret = "",
         .user_and_secret = ""},
    Tool{.names = "curl wget",
         .secret = "",
         .attached_secret = "",
         .user_and_secret = "uU",
         .flags = "sSfLkvigGIjJNOaqnR0123456#"},
    Tool{.names = "ldapsearch ldapadd ldapmodify ldapdelete ldapmodrdn ldapwhoami ldapcompare",
         .secret = "w",
         .attached_secret = "",
         .user_and_secret = "",
         .flags = "xZnvcMP"},
    Tool{.names = "ldappasswd", .secret = "was", .attached_secret = "", .user_and_secret = ""},
    Tool{.names = "smbclient rpcclient smbget smbcacls smbtree net",
         .secret = "",
         .attached_secret = "",
         .user_and_secret = "U",
         .separator = '%'},
    Tool{.names = "lftp", .secret = "", .attached_secret = "", .user_and_secret = "u", .separator = ','},
    Tool{.names = "redis-cli valkey-cli keydb-cli", .secret = "a", .attached_secret = "", .user_and_secret = ""},
    Tool{.names = "sqlcmd bcp tsql ipmitool zip unzip", .secret = "P", .attached_secret = "", .user_and_secret = ""},
    Tool{
        .names = "snmpget snmpset snmpwalk snmpbulkwalk", .secret = "AX", .attached_secret = "", .user_and_secret = ""},
    Tool{.names = "openssl", .secret = "kK", .attached_secret = "", .user_and_secret = ""},
    Tool{.names = "7z 7za 7zr rar unrar", .secret = "", .attached_secret = "p", .user_and_secret = ""},
    Tool{.names = "docker podman nerdctl buildah skopeo helm az",
         .secret = "",
         .attached_secret = "",
         .user_and_secret = "",
         .after_login = "p"},
    Tool{.names = "nmcli", .secret = "", .attached_secret = "", .user_and_secret = "", .keyword = "password"},
};

// The tools by name. Every argument that could be a program's name is looked up here.
class ToolNames {
 public:
  ToolNames() {
    for (const auto& tool : kTools) {
      for (auto rest = tool.names; !rest.empty();) {
        const auto name = rest.substr(0, rest.find(' '));
        rest.remove_prefix(std::min(rest.size(), name.size() + 1));
        auto& sizes = sizes_[static_cast<unsigned char>(name[0])];
        if (name.ends_with('*')) {
          prefixes_.emplace_back(name.substr(0, name.size() - 1), &tool);
          sizes |= ~std::uint64_t{0} << (name.size() - 1);
        } else {
          exact_.emplace(name, &tool);
          sizes |= std::uint64_t{1} << name.size();
        }
      }
    }
  }

  // Of 1 to 63 characters.
  [[nodiscard]] const Tool* find(std::string_view program) const {
    // Most words are settled by their first letter and their length.
    if ((sizes_[static_cast<unsigned char>(program[0])] >> program.size() & 1) == 0) return nullptr;
    if (const auto found = exact_.find(program); found != exact_.end()) return found->second;
    for (const auto& [prefix, tool] : prefixes_) {
      if (program.starts_with(prefix)) return tool;
    }
    return nullptr;
  }

 private:
  std::array<std::uint64_t, 256> sizes_{};  // by first character: a bit for each length that a name has
  std::unordered_map<std::string_view, const Tool*> exact_;
  std::vector<std::pair<std::string_view, const Tool*>> prefixes_;
};

}  // namespace

const Tool* find_tool(std::string_view program) {
  static const ToolNames tools;
  constexpr std::size_t kLongestName = 32;
  const auto name = program.substr(program.rfind('/') + 1);
  if (name.size() < 2 || name.size() > kLongestName) return nullptr;
  const auto* tool = tools.find(name);
  // A path of ordinary names only: what may hold a secret itself is no program.
  if (tool == nullptr || !std::ranges::all_of(program, [](char c) { return c == '/' || is_name_character(c); })) {
    return nullptr;
  }
  return tool;
}

Carries carried_by(const Tool& tool, char letter, bool after_login) {
  if (tool.secret.contains(letter)) return Carries::secret;
  if (tool.attached_secret.contains(letter)) return Carries::attached_secret;
  if (tool.user_and_secret.contains(letter)) return Carries::user_and_secret;
  if (after_login && tool.after_login.contains(letter)) return Carries::secret;
  return Carries::nothing;
}

std::string_view flag_letters(const Tool& tool) { return tool.flags; }
std::string_view keyword_of(const Tool& tool) { return tool.keyword; }
char user_separator(const Tool& tool) { return tool.separator; }

}  // namespace daemoneye::sensor
