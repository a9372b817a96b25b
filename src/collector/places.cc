#include "collector/places.h"

#include <functional>
#include <utility>

#include "collector/account.h"

namespace daemoneye::collector {
namespace {

template <class T>
bool same_or_unknown(const std::optional<T>& now, const std::optional<T>& seen) {
  return !seen || now == seen;
}

bool tells_nothing_new(const Place& place, const sensor::RawProcess& raw) {
  return same_or_unknown(place.uid, raw.uid) && same_or_unknown(place.euid, raw.euid) &&
         same_or_unknown(place.gid, raw.gid) && same_or_unknown(place.egid, raw.egid) &&
         same_or_unknown(place.session_id, raw.session_id) && same_or_unknown(place.loginuid, raw.loginuid) &&
         same_or_unknown(place.namespaces, raw.namespaces) && same_or_unknown(place.tty, raw.tty) &&
         same_or_unknown(place.cwd, raw.cwd) && same_or_unknown(place.cgroup, raw.cgroup);
}

template <class T>
void take(std::optional<T>& field, const std::optional<T>& seen) {
  if (seen) field = seen;
}

template <class T>
void mix(std::size_t& hash, const std::optional<T>& value) {
  hash = hash * 31 + (value ? std::hash<T>{}(*value) + 1 : 0);
}

std::size_t bytes_of(const Place& place) {
  constexpr std::size_t overhead = 64;  // of the pool and the pointer to it
  return sizeof place + overhead + heap_bytes(place.cwd) + heap_bytes(place.tty) + heap_bytes(place.cgroup) +
         heap_bytes(place.container) + heap_bytes(place.user) + heap_bytes(place.detail);
}

}  // namespace

std::size_t Places::Hash::operator()(const std::shared_ptr<const Place>& place) const {
  std::size_t hash = 0;
  mix(hash, place->cwd);
  mix(hash, place->cgroup);
  mix(hash, place->tty);
  mix(hash, place->uid);
  mix(hash, place->euid);
  mix(hash, place->gid);
  mix(hash, place->session_id);
  return hash;
}

bool Places::Equal::operator()(const std::shared_ptr<const Place>& a, const std::shared_ptr<const Place>& b) const {
  const auto fields = [](const Place& place) {
    return std::tie(place.uid, place.gid, place.euid, place.egid, place.loginuid, place.session_id, place.namespaces,
                    place.tty, place.cwd, place.cgroup, place.user, place.detail);
  };
  return fields(*a) == fields(*b);
}

std::string Places::detail_of(const Place& place) const {
  std::string text;
  const auto member = [&](const std::string& json) {
    if (!text.empty()) text += ',';
    text += json;
  };
  if (place.egid && place.egid != place.gid) member("\"egid\":" + std::to_string(*place.egid));
  if (!own_ || !place.namespaces) return text;
  std::string others;
  const auto compare = [&](const char* kind, std::uint32_t here, std::uint32_t own) {
    if (here == 0 || own == 0 || here == own) return;
    others += (others.empty() ? "\"" : ",\"") + std::string(kind) + "\":" + std::to_string(here);
  };
  const auto& here = *place.namespaces;
  compare("cgroup", here.cgroup, own_->cgroup);
  compare("ipc", here.ipc, own_->ipc);
  compare("mnt", here.mnt, own_->mnt);
  compare("net", here.net, own_->net);
  compare("pid", here.pid, own_->pid);
  compare("user", here.user, own_->user);
  compare("uts", here.uts, own_->uts);
  if (!others.empty()) member("\"namespaces\":{" + others + "}");
  return text;
}

std::shared_ptr<const Place> Places::shared(Place place) {
  if (pool_.size() >= sweep_at_ || bytes_ >= sweep_at_bytes_) {
    std::erase_if(pool_, [this](const auto& kept) {
      if (kept.use_count() != 1) return false;
      bytes_ -= bytes_of(*kept);
      return true;
    });
    constexpr std::size_t least = 256;
    sweep_at_ = std::max(least, 2 * pool_.size());
    sweep_at_bytes_ = std::max(least_sweep_bytes, 2 * bytes_);
  }
  const auto [kept, is_new] = pool_.insert(std::make_shared<const Place>(std::move(place)));
  if (is_new) bytes_ += bytes_of(**kept);
  return *kept;
}

std::shared_ptr<const Place> Places::updated(const std::shared_ptr<const Place>& from, const sensor::RawProcess& raw) {
  if (from && tells_nothing_new(*from, raw)) return from;
  Place place = from ? *from : Place{};
  const auto uid_before = place.uid;
  take(place.cwd, raw.cwd);
  take(place.tty, raw.tty);
  take(place.uid, raw.uid);
  take(place.gid, raw.gid);
  take(place.euid, raw.euid);
  take(place.egid, raw.egid);
  take(place.loginuid, raw.loginuid);
  take(place.session_id, raw.session_id);
  take(place.namespaces, raw.namespaces);
  if (raw.cgroup && raw.cgroup != place.cgroup) {
    place.cgroup = raw.cgroup;
    place.container = container_id(*raw.cgroup);
  }
  if (place.uid != uid_before) place.user = users_.find(*place.uid);
  place.detail = detail_of(place);
  return shared(std::move(place));
}

std::shared_ptr<const Place> Places::renamed(const std::shared_ptr<const Place>& from) {
  if (!from || !from->uid) return from;
  auto user = users_.find(*from->uid);
  if (user == from->user) return from;
  Place place = *from;
  place.user = std::move(user);
  return shared(std::move(place));
}

}  // namespace daemoneye::collector
