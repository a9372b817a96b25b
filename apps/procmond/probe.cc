#include "procmond/probe.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "common/startup.h"
#include "sensor/source.h"

namespace daemoneye::procmond {
namespace {

using nlohmann::json;

constexpr std::size_t ring_bytes = 256 * 1024, netlink_bytes = 64 * 1024;

template <class Opened>
json told(const char* name, const Opened& opened) {
  return {{"name", name}, {"works", opened.has_value()}, {"problem", opened ? "" : opened.error().message}};
}

}  // namespace

int probe_sources() {
  json sources = json::array();
  sources.push_back(told("ebpf", sensor::open_bpf_source(ring_bytes)));
  sources.push_back(told("netlink", sensor::open_netlink_source(netlink_bytes)));
  sources.push_back(told("bpf_iter", sensor::open_bpf_snapshot()));
  sources.push_back(told("procfs", sensor::open_procfs_snapshot()));
  const auto text = json{{"sources", std::move(sources)}}.dump(-1, ' ', false, json::error_handler_t::replace);
  return std::puts(text.c_str()) < 0 ? apps::exit_failed : apps::exit_ok;
}

}  // namespace daemoneye::procmond
