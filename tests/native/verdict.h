// What became of something impossible that was tried.
#pragma once

namespace activsparse {

enum class Verdict { kRefused, kTooLarge, kRan };

}  // namespace activsparse
