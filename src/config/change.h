// What two configurations differ in, and which of that loosens the guard.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"

namespace daemoneye::config {

struct Difference {
  std::string key;
  bool live = false;
  std::string before, after;  // YAML in one line, at most max_difference_bytes; of sinks their names alone
};
inline constexpr std::size_t max_difference_bytes = 400;
std::vector<Difference> differences(const Settings& before, const Settings& after);

// Whether procmond, too, takes it up: it reads the files itself.
bool concerns_collector(std::string_view key);
// Why procmond cannot read the configuration's files again while it runs; empty: it can. It is kept from folders that
// hold state.
std::string out_of_collectors_reach(const Sources& sources, const Settings& settings);

// `in_force` with the live keys of `wanted`: what runs after a reload.
Settings with_live_keys(const Settings& in_force, const Settings& wanted);

// A key whose new value gives up privacy, evidence or protection, and what is given up: "metrics.listen: …".
struct Weakening {
  std::string key, what;
};
std::vector<Weakening> weakenings(const Settings& before, const Settings& after);
// The same against the built-in defaults: how this configuration is weaker than one that nobody touched.
std::vector<Weakening> weaker_than_default(const Settings& settings);

}  // namespace daemoneye::config
