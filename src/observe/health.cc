#include "observe/health.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/text.h"

namespace daemoneye::observe {
namespace {

using nlohmann::json;

constexpr std::size_t max_health_bytes = 4 * 1024 * 1024;

std::optional<HealthState> parse_state(std::string_view text) {
  for (const auto state : {HealthState::ok, HealthState::degraded, HealthState::failed}) {
    if (to_string(state) == text) return state;
  }
  return std::nullopt;
}

Result<ComponentHealth> parse_component(const json& entry) {
  const auto bad = [](std::string_view what) {
    return fail(Errc::invalid_input, "health report: a component " + std::string(what));
  };
  const auto text = [&](const char* key) -> const std::string* {
    const auto found = entry.find(key);
    return found == entry.end() ? nullptr : found->get_ptr<const std::string*>();
  };
  if (!entry.is_object()) return bad("is not an object");
  const auto* name = text("component");
  const auto* state = text("state");
  if (name == nullptr) return bad("without name");
  const auto parsed = state == nullptr ? std::nullopt : parse_state(*state);
  if (!parsed) return bad("with an unknown state");
  ComponentHealth health{*name, *parsed, "", {}};
  if (const auto* reason = text("reason")) health.reason = *reason;
  if (const auto details = entry.find("details"); details != entry.end()) {
    if (!details->is_object()) return bad("whose details are not an object");
    for (const auto& [key, value] : details->items()) {
      const auto* detail = value.get_ptr<const json::string_t*>();
      if (detail == nullptr) return bad("with a detail that is not a text");
      health.details.emplace(key, *detail);
    }
  }
  return health;
}

}  // namespace

std::string_view to_string(HealthState state) {
  switch (state) {
    case HealthState::ok: return "ok";
    case HealthState::degraded: return "degraded";
    case HealthState::failed: return "failed";
  }
  return "failed";
}

void HealthBoard::set(ComponentHealth component) {
  const std::lock_guard lock(mutex_);
  const auto name = component.component;
  components_.insert_or_assign(name, std::move(component));
}

std::vector<ComponentHealth> HealthBoard::report() const {
  const std::lock_guard lock(mutex_);
  std::vector<ComponentHealth> report;
  report.reserve(components_.size());
  for (const auto& [name, component] : components_) report.push_back(component);
  return report;
}

HealthState worst(const std::vector<ComponentHealth>& report) {
  HealthState state = HealthState::ok;
  for (const auto& component : report) state = std::max(state, component.state);
  return state;
}

std::string summary(const std::vector<ComponentHealth>& report) {
  std::string text;
  for (const auto state : {HealthState::failed, HealthState::degraded}) {
    for (const auto& component : report) {
      if (component.state != state) continue;
      text += (text.empty() ? "" : "; ") + component.component + ": " +
              (component.reason.empty() ? std::string(to_string(state)) : component.reason);
    }
  }
  return text.empty() ? "everything works" : text;
}

std::string to_json(const std::vector<ComponentHealth>& report) {
  json components = json::array();
  for (const auto& component : report) {
    json entry = {{"component", base::to_valid_utf8(component.component)},
                  {"state", to_string(component.state)},
                  {"reason", base::to_valid_utf8(component.reason)},
                  {"details", json::object()}};
    for (const auto& [key, value] : component.details) {
      entry["details"][base::to_valid_utf8(key)] = base::to_valid_utf8(value);
    }
    components.push_back(std::move(entry));
  }
  return json{{"state", to_string(worst(report))},
              {"reason", base::to_valid_utf8(summary(report))},
              {"components", std::move(components)}}
      .dump();
}

Result<std::vector<ComponentHealth>> parse_health(std::string_view text) {
  if (text.size() > max_health_bytes) return fail(Errc::limit_exceeded, "health report: too large");
  const auto document = json::parse(text, nullptr, false);
  const auto components = document.is_object() ? document.find("components") : document.end();
  if (!document.is_object() || components == document.end() || !components->is_array()) {
    return fail(Errc::invalid_input, "health report: not an object with a list of components");
  }
  std::vector<ComponentHealth> report;
  for (const auto& entry : *components) {
    DE_TRY(auto component, parse_component(entry));
    report.push_back(std::move(component));
  }
  return report;
}

}  // namespace daemoneye::observe
