// The loop nest over views of one shape: axes sorted by where the output lies, neighbours that form
// one run in every operand merged into one.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <string>

#include "operators/operator.h"

namespace activsparse {

inline constexpr int kViewAxes = 8;
inline constexpr int kViewOperands = 4;  // 0: output; 1, 2: inputs or tables; 3: table

struct ViewAxes {
  int32_t rank = 0;
  int64_t size[kViewAxes] = {};
  int64_t stride[kViewAxes][kViewOperands] = {};
  int64_t offset[kViewOperands] = {};

  // Of packed data: whether they make sense, and whether operand `i` stays below `floats`.
  bool sound() const;
  bool stays_inside(int operand, int64_t floats) const;

  // From the arrays `shape`, `y_strides` and `<input>_strides` (int32) and the integers `y_offset`
  // and `<input>_offset`. Tables have the views' rank, with size 1 where they repeat. An axis that
  // is `kept` stays by itself and becomes the last one. Throws Error where a view leaves its
  // tensor.
  static ViewAxes of(const OpSpec& spec, std::initializer_list<const char*> inputs,
                     std::initializer_list<const ArrayView*> tables, int kept = -1);

  // The same without merging or moving axes.
  static ViewAxes read(const OpSpec& spec, std::initializer_list<const char*> inputs,
                       std::initializer_list<const ArrayView*> tables);

  // Makes the axis last along which rows are best computed: one that is contiguous in the output
  // and not short, else the longest.
  void choose_row();

  // Of the first `kept` axes, makes the last one that along which the input is contiguous, if any.
  void choose_kept_row(int kept);

  // Whether input and output are contiguous along two different axes; these become the last ones,
  // the input's behind the output's.
  bool to_matrix();

 private:
  void move_last(int axis);
  void merge(int last);
};

}  // namespace activsparse
