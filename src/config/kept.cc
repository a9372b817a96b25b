#include "config/kept.h"

#include "base/file.h"

namespace daemoneye::config {
namespace {

constexpr std::size_t max_bytes = 1024 * 1024;
constexpr unsigned owner_only = 0600;  // an address may hold a token

}  // namespace

Result<void> keep(const std::string& path, const Loaded& loaded) {
  return base::write_file_atomic(path, to_yaml(loaded), owner_only);
}

std::optional<Settings> read_kept(const std::string& path) {
  auto text = base::read_file(path, max_bytes);
  if (!text) return std::nullopt;
  Sources alone;  // no other layer, and nothing of this machine
  alone.config_file = path;
  alone.etc = "/nonexistent";
  alone.bundle_fragment = "";
  alone.instead[path] = std::move(*text);
  auto loaded = load(alone);
  if (!loaded) return std::nullopt;
  return std::move(loaded->settings);
}

}  // namespace daemoneye::config
