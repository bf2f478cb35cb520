// Exceptions stop here: every function of the C interface runs its body inside guarded().
#pragma once
#include <new>

#include "activsparse.h"
#include "common/error.h"

namespace activsparse {

// Keeps the text for as_last_error(), shortened if need be, and returns the status.
as_status fail(as_status status, const char* text) noexcept;

inline as_status status_of(const Error& error) noexcept {
  switch (error.cause()) {
    case Cause::kFile:
      return AS_FILE;
    case Cause::kDamaged:
      return AS_DAMAGED;
    case Cause::kIncompatible:
      return AS_INCOMPATIBLE;
    case Cause::kInvalid:
      break;
  }
  return AS_INVALID;
}

template <class Body>
as_status guarded(const Body& body) noexcept {
  try {
    body();
    return AS_OK;
  } catch (const Error& e) {
    return fail(status_of(e), e.what());
  } catch (const std::bad_alloc&) {
    return fail(AS_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& e) {
    return fail(AS_INTERNAL, e.what());
  } catch (...) {
    return fail(AS_INTERNAL, "unknown exception");
  }
}

inline void require_argument(bool present, const char* name) {
  if (!present) throw Error(std::string("argument '") + name + "' is NULL");
}

}  // namespace activsparse
