// Four float16 and float32, by WGSL's own functions: for drivers that do not flush subnormals and
// round half to even, which WGSL leaves to them.

fn from_halves(words: vec2<u32>) -> vec4<u32> {
  return bitcast<vec4<u32>>(vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y)));
}

// The same of four elements.
fn from_half_elements(v: vec4<u32>) -> vec4<u32> {
  let even = vec2<f32>(unpack2x16float(v.x).x, unpack2x16float(v.y).x);
  let odd = vec2<f32>(unpack2x16float(v.z).x, unpack2x16float(v.w).x);
  return bitcast<vec4<u32>>(vec4<f32>(even, odd));
}

fn to_halves(bits: vec4<u32>) -> vec2<u32> {
  let floats = bitcast<vec4<f32>>(bits);
  return vec2<u32>(pack2x16float(floats.xy), pack2x16float(floats.zw));
}
