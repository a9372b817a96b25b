#include "agent/bundle_audit.h"

#include <nlohmann/json.hpp>

#include "bundle/in_force.h"
#include "observe/log.h"

namespace daemoneye::apps {
namespace {

using nlohmann::json;

constexpr std::size_t max_told_bytes = 16 * 1024;  // of what an operator's import says

}  // namespace

void BundleAudit::look() {
  const auto in_force = bundle::read_in_force(path_);
  if (!in_force) {
    observe::log(observe::Level::warn, "bundle", "the bundle in force cannot be read",
                 {{"error", in_force.error().message}});
    return;
  }
  const auto digest = *in_force ? (*in_force)->digest : std::string();
  if (digest == told_) return;
  json payload = {{"in_force", in_force->has_value()}};
  if (const auto& bundle = *in_force) {
    payload.update({{"id", bundle->id},
                    {"version", bundle->version.text()},
                    {"digest", bundle->digest},
                    {"signer", bundle->signer},
                    {"imported", base::to_iso(bundle->imported)}});
  }
  if (audit_("bundle", payload.dump(-1, ' ', false, json::error_handler_t::replace), std::nullopt)) told_ = digest;
}

Result<bool> BundleAudit::answer(uid_t by, const std::string& payload) {
  const auto not_understood = [] { return fail(Errc::invalid_input, "bundle: not understood"); };
  // The size bounds the nesting, which the printer follows on the stack.
  if (payload.size() > max_told_bytes) return not_understood();
  const auto asked = json::parse(payload, nullptr, false);
  if (!asked.is_object() || !asked.contains("do") || !asked["do"].is_string()) return not_understood();
  if (asked["do"] == "may") return false;  // who may not was turned away before
  if (asked["do"] != "imported" || !asked.contains("bundle") || !asked["bundle"].is_object()) return not_understood();
  auto told = asked["bundle"];
  DE_TRY(const auto in_force, bundle::read_in_force(path_));
  if (!in_force || told.value("digest", json()) != in_force->digest) {
    return fail(Errc::invalid_input,
                "the agent does not find this bundle in " + path_ + " (does it run with another bundle.path?)");
  }
  told["by_uid"] = by;
  if (!audit_("bundle_import", told.dump(-1, ' ', false, json::error_handler_t::replace), by)) {
    return fail(Errc::limit_exceeded, "the import could not be recorded: too much waits for the collector already");
  }
  told_ = in_force->digest;
  return true;
}

}  // namespace daemoneye::apps
