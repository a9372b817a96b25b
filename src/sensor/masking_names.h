// Which names and options carry secrets: the tables behind mask_arguments.
#pragma once

#include <string_view>

#include "sensor/characters.h"

namespace daemoneye::sensor {

// Letters, digits, '_', '-' and '.': what names of options, variables and headers consist of.
inline constexpr Characters name_characters{"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."};
inline bool is_name_character(char c) { return name_characters.contains(c); }
bool is_name(std::string_view text);

// Where the secret word must stand in a name.
enum class SecretWord {
  anywhere,  // an assignment: MY_TOKEN_V2=…
  last,      // an option whose value is the next argument: --my-token …, but not --token-scope …
};

// Whether what this name names is a secret: words of it (split at '-', '_', '.', and before capitals) say so, as in
// DB_PASSWORD, --api-key, keyStorePassword. Not so tokenize, max_tokens, PASSWORD_FILE, --no-password.
bool is_secret_name(std::string_view name, SecretWord where);

// "Authorization", "Cookie", "X-Api-Key" and their kind.
bool is_secret_header(std::string_view name);

// What a short option of a known tool carries.
enum class Carries {
  nothing,
  secret,           // -a SECRET, -aSECRET
  attached_secret,  // -pSECRET only: alone it asks for the password
  user_and_secret,  // -u user:SECRET; the user is kept
};

// A tool whose short options are known; nullptr for others. By base name.
struct Tool;
const Tool* find_tool(std::string_view program);
// What the option letter carries. `after_login`: an argument "login" came before (docker -p is a port otherwise).
Carries carried_by(const Tool& tool, char letter, bool after_login);
// Letters that can stand before another in one argument (curl -sSu user:secret).
std::string_view flag_letters(const Tool& tool);
// A bare word that announces a secret (nmcli … password SECRET), or empty.
std::string_view keyword_of(const Tool& tool);
// Separates user and secret: ':', or '%' for Samba.
char user_separator(const Tool& tool);

}  // namespace daemoneye::sensor
