#include "detect/literal_set.h"

#include <hs/hs.h>

#include <limits>

namespace daemoneye::detect {
namespace {

struct Search {
  const std::vector<std::uint32_t>& begin_sizes;
  std::vector<std::uint32_t>& found;
};

int matched(unsigned id, unsigned long long, unsigned long long to, unsigned, void* context) {
  const auto& search = *static_cast<Search*>(context);
  const auto size = search.begin_sizes[id];
  if (size == 0 || to == size) search.found.push_back(id);
  return 0;
}

}  // namespace

SearchSpace::~SearchSpace() { hs_free_scratch(scratch_); }

void LiteralSet::Free::operator()(hs_database* database) const { hs_free_database(database); }

Result<LiteralSet> LiteralSet::compile(const std::vector<Literal>& literals) {
  if (hs_valid_platform() != HS_SUCCESS) return fail(Errc::unavailable, "this processor cannot run Vectorscan");
  std::vector<const char*> texts;
  std::vector<std::size_t> sizes;
  std::vector<unsigned> flags, ids;
  std::vector<std::uint32_t> begin_sizes;
  for (const auto& literal : literals) {
    texts.push_back(literal.text.data());
    sizes.push_back(literal.text.size());
    ids.push_back(static_cast<unsigned>(ids.size()));
    // One at the begin may be found first elsewhere, hence not once.
    flags.push_back((literal.any_case ? HS_FLAG_CASELESS : 0U) | (literal.at_begin ? 0U : HS_FLAG_SINGLEMATCH));
    begin_sizes.push_back(literal.at_begin ? static_cast<std::uint32_t>(literal.text.size()) : 0);
  }
  hs_database_t* database = nullptr;
  hs_compile_error_t* error = nullptr;
  const auto outcome =
      hs_compile_lit_multi(texts.data(), flags.data(), ids.data(), sizes.data(), static_cast<unsigned>(texts.size()),
                           HS_MODE_BLOCK, nullptr, &database, &error);
  if (outcome != HS_SUCCESS) {
    const std::string message = error != nullptr && error->message != nullptr ? error->message : "unknown error";
    hs_free_compile_error(error);
    return fail(Errc::internal, "Vectorscan: " + message);
  }
  LiteralSet set(database);
  set.begin_sizes_ = std::move(begin_sizes);
  return set;
}

Result<void> LiteralSet::fit(SearchSpace& space) const {
  if (hs_alloc_scratch(database_.get(), &space.scratch_) != HS_SUCCESS) {
    return fail(Errc::internal, "Vectorscan: no memory to search with");
  }
  return {};
}

Result<void> LiteralSet::find(std::string_view text, SearchSpace& space, std::vector<std::uint32_t>& found) const {
  if (text.empty()) return {};
  if (text.size() > std::numeric_limits<unsigned>::max()) return fail(Errc::limit_exceeded, "a text above 4 GiB");
  Search search{begin_sizes_, found};
  const auto outcome =
      hs_scan(database_.get(), text.data(), static_cast<unsigned>(text.size()), 0, space.scratch_, matched, &search);
  if (outcome != HS_SUCCESS) return fail(Errc::internal, "Vectorscan: scanning failed: " + std::to_string(outcome));
  return {};
}

std::size_t LiteralSet::bytes() const {
  std::size_t size = 0;
  hs_database_size(database_.get(), &size);
  return size;
}

}  // namespace daemoneye::detect
