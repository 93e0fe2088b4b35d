// The types are those of the package, of the same version: for the checks alone.
export * from "echarts";
