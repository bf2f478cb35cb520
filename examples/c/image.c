#include "image.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct picture {
  int channels, height, width;
  unsigned char* samples; /* [row][column][channel] */
} picture;

/* The next number of the header, after blanks and comments; -1 where there is none. */
static int header_number(FILE* file) {
  int c = fgetc(file), value = 0, digits = 0;
  while (c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '#') {
    if (c == '#')
      while (c != '\n' && c != EOF) c = fgetc(file);
    c = fgetc(file);
  }
  for (; c >= '0' && c <= '9' && digits < 6; c = fgetc(file), ++digits)
    value = value * 10 + c - '0';
  return digits > 0 ? value : -1; /* the one blank after the number is read */
}

static const char* read_picture(FILE* file, picture* p) {
  const int p_letter = fgetc(file), kind = fgetc(file);
  size_t size;
  if (p_letter != 'P' || (kind != '5' && kind != '6')) return "is neither a binary PPM nor a PGM";
  p->channels = kind == '6' ? 3 : 1;
  p->width = header_number(file);
  p->height = header_number(file);
  if (p->width < 1 || p->height < 1 || p->width > 32768 || p->height > 32768)
    return "has an impossible size";
  if (header_number(file) != 255) return "does not have 8 bits per sample";
  size = (size_t)p->channels * (size_t)p->width * (size_t)p->height;
  p->samples = malloc(size);
  if (p->samples == NULL) return "does not fit into memory";
  return fread(p->samples, 1, size, file) == size ? NULL : "is cut short";
}

/* Bilinear: the value of channel c at (y, x), in pixels, the centre of the first being (0, 0). */
static float sample(const picture* p, int c, float y, float x) {
  const float top = y < 0 ? 0 : y, left = x < 0 ? 0 : x;
  const int y0 = (int)top < p->height - 1 ? (int)top : p->height - 1;
  const int x0 = (int)left < p->width - 1 ? (int)left : p->width - 1;
  const int y1 = y0 + 1 < p->height ? y0 + 1 : y0, x1 = x0 + 1 < p->width ? x0 + 1 : x0;
  const float fy = top - (float)y0, fx = left - (float)x0;
  const unsigned char* s = p->samples + c;
  const float a = s[(y0 * p->width + x0) * p->channels], b = s[(y0 * p->width + x1) * p->channels];
  const float d = s[(y1 * p->width + x0) * p->channels], e = s[(y1 * p->width + x1) * p->channels];
  return (a * (1 - fx) + b * fx) * (1 - fy) + (d * (1 - fx) + e * fx) * fy;
}

float* read_image(const char* path, int channels, int height, int width, const float* mean,
                  const float* std) {
  picture p = {0, 0, 0, NULL};
  float* result = NULL;
  const char* failure = "cannot be opened";
  FILE* file = fopen(path, "rb");
  if (file != NULL) {
    failure = read_picture(file, &p);
    fclose(file);
  }
  if (failure == NULL && p.channels != channels)
    failure = "has another number of channels than the network";
  if (failure == NULL) {
    result = malloc(sizeof(float) * (size_t)channels * (size_t)height * (size_t)width);
    if (result == NULL) failure = "does not fit into memory";
  }
  if (failure != NULL) {
    fprintf(stderr, "%s: %s\n", path, failure);
  } else {
    const float across = (float)p.width / (float)width, down = (float)p.height / (float)height;
    const float scale = across < down ? across : down; /* source pixels per pixel */
    const float top = ((float)p.height - scale * (float)height) / 2;
    const float left = ((float)p.width - scale * (float)width) / 2;
    float* out = result;
    for (int c = 0; c < channels; ++c)
      for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x) {
          const float value = sample(&p, c, top + scale * ((float)y + 0.5f) - 0.5f,
                                     left + scale * ((float)x + 0.5f) - 0.5f);
          *out++ = (value / 255 - mean[c]) / std[c];
        }
  }
  free(p.samples);
  return result;
}
