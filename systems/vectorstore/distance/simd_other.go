//go:build !amd64

package distance

var simd kernels
