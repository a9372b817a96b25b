// A block's chunks from foreign bytes: [rows u16] then [place u8][size u16][body]…; framed or not, nothing may crash,
// and a column that decodes must answer every row.
#include <cstdint>
#include <cstdlib>
#include <map>
#include <vector>

#include "base/bytes.h"
#include "store/block.h"

using namespace daemoneye;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  base::ByteReader in({reinterpret_cast<const char*>(data), size});
  const std::uint32_t rows = in.u16() % 512U;
  std::map<std::uint8_t, std::string> chunks;
  while (in.ok() && !in.at_end()) {
    const std::uint8_t place = in.u8() % 64;
    const std::size_t length = in.u16();
    chunks[place] = in.raw(std::min(length, in.remaining()));
  }
  for (const auto& [place, body] : chunks) {
    (void)store::open_chunk(body, place);
    if (place == store::batches_chunk) {
      const auto batches = store::decode_batches(body);
      if (batches && !store::decode_batches(store::encode_batches(*batches))) abort();
    }
  }
  auto block = store::Block::open(
      [&](std::uint8_t place) -> Result<std::string> {
        const auto found = chunks.find(place);
        if (found == chunks.end()) return fail(Errc::corrupt, "missing");
        return found->second;
      },
      rows);
  if (!block) {
    store::BlockHeader header;
    header.rows = rows;
    chunks[store::header_chunk] = store::encode_header(header);
    block = store::Block::open([&](std::uint8_t place) -> Result<std::string> { return chunks[place]; }, rows);
    if (!block) abort();
  }
  std::vector<std::uint32_t> some, met;
  store::FewValues few;
  for (std::uint32_t row = 0; row < rows; row += 3) some.push_back(row);
  for (const auto* const text : {"name = 'a'", "process_key = '5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a-1-1'"}) {
    const auto equality = predicate::Predicate::parse(text);
    if (!equality) abort();
    if (rows > 0) (void)(*block)->select(store::ScanConditions(*equality), {}, 1, 0, rows - 1, met);
  }
  for (std::size_t i = 0; i < event::column_count; ++i) {
    const auto column = static_cast<event::Column>(i);
    if (store::Block::has_entries(column) && (*block)->few_of(column, some, few)) {
      for (std::size_t place = 0; place < some.size(); ++place) (void)(*block)->value_of(column, few, place);
    }
    if (!(*block)->need(column)) continue;
    for (std::uint32_t row = 0; row < rows; ++row) (void)(*block)->value(row, column, 1);
  }
  if (rows > 0) {
    (void)(*block)->event(0);
    const auto predicate = predicate::Predicate::parse(
        "name LIKE '%a%' AND pid >= 0 AND command_line LIKE '%A b%' AND user NOT LIKE '%r_o%'");
    if (!predicate) abort();
    (void)(*block)->select(store::ScanConditions(*predicate), {Timestamp{0}, Timestamp{1}}, 1, 0, rows - 1, met);
  }
  return 0;
}
