// Conversions of four elements at a time. An element is the low bits of a u32 unless said otherwise.

// q = clamp(round(x * inv_scale) + zero_point, -128, 127), half to even. NaN becomes 0, as in
// quantized_decomposed.quantize_per_tensor. Bits are tested: drivers may assume that no NaN exists.
fn quantize(bits: vec4<u32>) -> vec4<u32> {
  let x = bitcast<vec4<f32>>(bits);
  let rounded = round(x * params.factor) + params.zero_point;
  let q = vec4<i32>(clamp(rounded, vec4<f32>(-128.0), vec4<f32>(127.0)));
  let is_nan = (bits & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
  return bitcast<vec4<u32>>(select(q, vec4<i32>(0), is_nan)) & vec4<u32>(0xffu);
}

// x = (q - zero_point) * scale
fn dequantize(elements: vec4<u32>) -> vec4<u32> {
  let q = bitcast<vec4<i32>>(elements << vec4<u32>(24u)) >> vec4<u32>(24u);
  return bitcast<vec4<u32>>((vec4<f32>(q) - params.zero_point) * params.factor);
}

// float16 to float32, exactly: subnormals are not flushed, whatever the driver does.
fn from_half(half: vec4<u32>) -> vec4<u32> {
  let sign = (half & vec4<u32>(0x8000u)) << vec4<u32>(16u);
  let rest = half & vec4<u32>(0x7fffu);
  let normal = (rest << vec4<u32>(13u)) + vec4<u32>(0x38000000u);
  let special = (rest << vec4<u32>(13u)) | vec4<u32>(0x7f800000u);
  let subnormal = bitcast<vec4<u32>>(vec4<f32>(rest) * 5.9604644775390625e-8);
  let large = select(normal, special, rest >= vec4<u32>(0x7c00u));
  return sign | select(large, subnormal, rest < vec4<u32>(0x400u));
}

// float32 (no NaN) to float16, half to even.
fn to_half(bits: vec4<u32>) -> vec4<u32> {
  let sign = (bits >> vec4<u32>(16u)) & vec4<u32>(0x8000u);
  let rest = bits & vec4<u32>(0x7fffffffu);
  let odd = (rest >> vec4<u32>(13u)) & vec4<u32>(1u);
  let normal = (rest + odd + vec4<u32>(0xfffu) - vec4<u32>(0x38000000u)) >> vec4<u32>(13u);
  let subnormal = vec4<u32>(round(bitcast<vec4<f32>>(rest) * 16777216.0));
  let finite = select(normal, subnormal, rest < vec4<u32>(0x38800000u));
  return sign | select(finite, vec4<u32>(0x7c00u), rest >= vec4<u32>(0x47800000u));
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
