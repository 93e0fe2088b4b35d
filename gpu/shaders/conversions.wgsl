// Conversions of four elements at a time. An element is the low bits of a u32 unless said otherwise.
// Conversions between float and integer are a fraction as fast as additions on common GPUs, so they
// are done by adding: the integer k is in the low bits of the float 2^23 + k.

// Four elements to quantize: q = clamp(round(x * inv_scale) + zero_point, -128, 127), half to even,
// as the bits of 1.5 * 2^23 + q - zero_point. That sum has no bits below one, so it is what rounds.
// NaN becomes q = 0, as in quantized_decomposed.quantize_per_tensor. Bits are tested: drivers may
// assume that no NaN exists.
fn quantize(bits: vec4<u32>) -> vec4<u32> {
  let zero = vec4<f32>(-params.zero_point);
  // What is clamped is no product any more: the sum cannot be fused with one, and round but once.
  let scaled = clamp(bitcast<vec4<f32>>(bits) * params.factor, zero - 128.0, zero + 127.0);
  let is_nan = (bits & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
  return bitcast<vec4<u32>>(select(scaled, zero, is_nan) + 12582912.0);
}

// A word of four quantized elements. Their sum has no carries once each is made q + 128.
fn pack_quantized(v: vec4<u32>) -> u32 {
  let offset = bitcast<u32>(params.zero_point + (12582912.0 + 128.0)) - 2u * 0x4b400000u;
  let sum = v.x + (v.y << 8u) + (v.z << 16u) + (v.w << 24u);
  return (sum + offset * 0x01010101u) ^ 0x80808080u;
}

// The four elements of a word: x = (q - zero_point) * scale. A byte at the lowest bits of the float
// 2^23, or eight bits above those of 2^15, counts ones.
fn dequantize(word: u32) -> vec4<u32> {
  let flipped = word ^ 0x80808080u;
  let pairs = vec4<u32>(flipped, flipped, flipped >> 16u, flipped >> 16u);
  let bytes = pairs & vec4<u32>(0xffu, 0xff00u, 0xffu, 0xff00u);
  let one = vec2<u32>(0x4b000000u, 0x47000000u);
  let zero = vec2<f32>(8388608.0, 32768.0) + (128.0 + params.zero_point);
  let centred = bitcast<vec4<f32>>(bytes | one.xyxy) - zero.xyxy;
  return bitcast<vec4<u32>>(centred * params.factor);
}

fn pack_bytes(v: vec4<u32>) -> u32 {
  return v.x | (v.y << 8u) | (v.z << 16u) | (v.w << 24u);
}

fn unpack_bytes(word: u32) -> vec4<u32> {
  return (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xffu);
}

fn pack_halves(v: vec4<u32>) -> vec2<u32> {
  return v.xz | (v.yw << vec2<u32>(16u));
}

fn unpack_halves(words: vec2<u32>) -> vec4<u32> {
  return vec4<u32>(words.x & 0xffffu, words.x >> 16u, words.y & 0xffffu, words.y >> 16u);
}

// The low, or the high, halves of four words.
fn low_halves(words: vec4<u32>) -> vec2<u32> {
  return (words.xz & vec2<u32>(0xffffu)) | (words.yw << vec2<u32>(16u));
}

fn high_halves(words: vec4<u32>) -> vec2<u32> {
  return (words.xz >> vec2<u32>(16u)) | (words.yw & vec2<u32>(0xffff0000u));
}

// Four words of four bytes, as a 4x4 matrix: rows become columns.
fn transpose_bytes(m: vec4<u32>) -> vec4<u32> {
  let low = (m.xz & vec2<u32>(0x00ff00ffu)) | ((m.yw & vec2<u32>(0x00ff00ffu)) << vec2<u32>(8u));
  let high = ((m.xz >> vec2<u32>(8u)) & vec2<u32>(0x00ff00ffu)) | (m.yw & vec2<u32>(0xff00ff00u));
  return vec4<u32>(
    (low.x & 0xffffu) | (low.y << 16u),
    (high.x & 0xffffu) | (high.y << 16u),
    (low.x >> 16u) | (low.y & 0xffff0000u),
    (high.x >> 16u) | (high.y & 0xffff0000u));
}
