/* Images as networks take them: planar floats, normalised. */
#ifndef IMAGE_H_
#define IMAGE_H_

/* Reads a binary PPM (P6) or PGM (P5) of 8 bits per sample, cuts out the largest centred rectangle
 * of the wanted proportions, scales it to height x width and normalises every channel: (v / 255 -
 * mean) / std. Returns channels x height x width floats for free(), or NULL after a message to
 * stderr. */
float* read_image(const char* path, int channels, int height, int width, const float* mean,
                  const float* std);

#endif
