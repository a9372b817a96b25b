// Any bytes as a message: decode, encode, decode is a fixed point, and what is accepted is within its bounds. The
// batch stream then takes it as it would from a peer that lies.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "ipc/batch_stream.h"
#include "ipc/codec.h"

namespace {

using namespace daemoneye;

daemoneye::Result<void> discard(const ipc::Message&) { return {}; }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto message = ipc::decode_message(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!message) return 0;
  if (!ipc::check_message(*message)) std::abort();
  const std::string encoded = ipc::encode_message(*message);
  const auto again = ipc::decode_message(encoded);
  if (!again || again->index() != message->index()) std::abort();
  if (ipc::encode_message(*again) != encoded) std::abort();

  ipc::BatchSender sender("procmond", event::Epoch{1}, {});
  const ipc::Hello hello = sender.hello(Timestamp{1}, "0", "h");
  ipc::BatchReceiver receiver(hello, 0);
  if (const auto* welcome = std::get_if<ipc::Welcome>(&*message)) {
    // Nothing was sent, so no store can hold any of it.
    const auto taken = sender.on_welcome(*welcome, discard);
    if (taken && welcome->committed_sequence != 0) std::abort();
  } else if (const auto* acknowledge = std::get_if<ipc::Acknowledge>(&*message)) {
    if (sender.on_acknowledge(*acknowledge, discard)) std::abort();
  } else if (const auto* resume = std::get_if<ipc::Resume>(&*message)) {
    const auto taken = receiver.on_resume(*resume);
    if (taken && resume->first_sequence != 1 && !resume->missing) std::abort();
  } else if (const auto* batch = std::get_if<ipc::BatchMessage>(&*message)) {
    if (!receiver.on_resume(ipc::Resume{1, {}})) std::abort();
    const auto taken = receiver.on_batch(*batch);
    if (taken && taken->batch &&
        (base::as_bytes(base::sha256(batch->canonical)) != batch->digest || batch->sequence != 1)) {
      std::abort();
    }
  }
  return 0;
}
