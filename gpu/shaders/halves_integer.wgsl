// Four float16 and float32, in integers: no driver flushes subnormals here, or rounds otherwise.

// float16 to float32.
fn from_half_elements(half: vec4<u32>) -> vec4<u32> {
  let sign = (half & vec4<u32>(0x8000u)) << vec4<u32>(16u);
  let rest = (half & vec4<u32>(0x7fffu)) << vec4<u32>(13u);
  let special = select(vec4<u32>(0x38000000u), vec4<u32>(0x70000000u), rest >= vec4<u32>(0x0f800000u));
  let above = bitcast<vec4<f32>>(rest + vec4<u32>(0x38800000u)) - vec4<f32>(6.103515625e-5);
  let is_subnormal = rest < vec4<u32>(0x00800000u);
  return sign | select(rest + special, bitcast<vec4<u32>>(above), is_subnormal);
}

fn from_halves(words: vec2<u32>) -> vec4<u32> {
  return from_half_elements(unpack_halves(words));
}

// float32 (no NaN) to float16, half to even.
fn to_halves(bits: vec4<u32>) -> vec2<u32> {
  let sign = (bits >> vec4<u32>(16u)) & vec4<u32>(0x8000u);
  let rest = bits & vec4<u32>(0x7fffffffu);
  let odd = (rest >> vec4<u32>(13u)) & vec4<u32>(1u);
  let normal = (rest + odd + vec4<u32>(0xc8000fffu)) >> vec4<u32>(13u);
  // The last bit of a float16 subnormal is that of a float32 from 0.5 to 1.
  let above = bitcast<vec4<u32>>(bitcast<vec4<f32>>(rest) + vec4<f32>(0.5));
  let subnormal = above - vec4<u32>(0x3f000000u);
  let finite = select(normal, subnormal, rest < vec4<u32>(0x38800000u));
  return pack_halves(sign | select(finite, vec4<u32>(0x7c00u), rest >= vec4<u32>(0x47800000u)));
}
