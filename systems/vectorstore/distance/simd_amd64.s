#include "textflag.h"

// All three walk the rows in the same way: SI the query, DX its length, BX the
// next row pointer, CX the rows left, DI the next result, R8 this row, R9 the
// next row (whose memory is asked for in step with this one's reading; the last
// row asks for itself), R10 the length that the unrolled loop covers, AX where
// in the row it is.

// func dotRowsAVX2(q *float32, dim int, rows *unsafe.Pointer, n int, out *float32)
TEXT ·dotRowsAVX2(SB), NOSPLIT, $0-40
	MOVQ q+0(FP), SI
	MOVQ dim+8(FP), DX
	MOVQ rows+16(FP), BX
	MOVQ n+24(FP), CX
	MOVQ out+32(FP), DI
	MOVQ DX, R10
	ANDQ $~31, R10

	// The first lines of all rows are asked for at once.
	MOVQ BX, R11
	MOVQ CX, R12
dotAhead:
	MOVQ (R11), R9
	PREFETCHT0 (R9)
	PREFETCHT0 64(R9)
	ADDQ $8, R11
	DECQ R12
	JNZ  dotAhead

dotRow:
	MOVQ    (BX), R8
	MOVQ    R8, R9
	CMPQ    CX, $1
	JEQ     dotLast
	MOVQ    8(BX), R9
dotLast:
	VXORPS  Y0, Y0, Y0
	VXORPS  Y1, Y1, Y1
	VXORPS  Y2, Y2, Y2
	VXORPS  Y3, Y3, Y3
	XORQ    AX, AX
dot32:
	CMPQ    AX, R10
	JGE     dot8
	PREFETCHT0  (R9)(AX*4)
	PREFETCHT0  64(R9)(AX*4)
	VMOVUPS (SI)(AX*4), Y4
	VMOVUPS 32(SI)(AX*4), Y5
	VMOVUPS 64(SI)(AX*4), Y6
	VMOVUPS 96(SI)(AX*4), Y7
	VFMADD231PS (R8)(AX*4), Y4, Y0
	VFMADD231PS 32(R8)(AX*4), Y5, Y1
	VFMADD231PS 64(R8)(AX*4), Y6, Y2
	VFMADD231PS 96(R8)(AX*4), Y7, Y3
	ADDQ    $32, AX
	JMP     dot32
dot8:
	CMPQ    AX, DX
	JGE     dotSum
	PREFETCHT0  (R9)(AX*4)
	VMOVUPS (SI)(AX*4), Y4
	VFMADD231PS (R8)(AX*4), Y4, Y0
	ADDQ    $8, AX
	JMP     dot8
dotSum:
	VADDPS  Y1, Y0, Y0
	VADDPS  Y3, Y2, Y2
	VADDPS  Y2, Y0, Y0
	VEXTRACTF128 $1, Y0, X1
	VADDPS  X1, X0, X0
	VHADDPS X0, X0, X0
	VHADDPS X0, X0, X0
	VMOVSS  X0, (DI)
	ADDQ    $8, BX
	ADDQ    $4, DI
	DECQ    CX
	JNZ     dotRow
	VZEROUPPER
	RET

// func l2RowsAVX2(q *float32, dim int, rows *unsafe.Pointer, n int, out *float32)
TEXT ·l2RowsAVX2(SB), NOSPLIT, $0-40
	MOVQ q+0(FP), SI
	MOVQ dim+8(FP), DX
	MOVQ rows+16(FP), BX
	MOVQ n+24(FP), CX
	MOVQ out+32(FP), DI
	MOVQ DX, R10
	ANDQ $~31, R10

	// The first lines of all rows are asked for at once.
	MOVQ BX, R11
	MOVQ CX, R12
l2Ahead:
	MOVQ (R11), R9
	PREFETCHT0 (R9)
	PREFETCHT0 64(R9)
	ADDQ $8, R11
	DECQ R12
	JNZ  l2Ahead

l2Row:
	MOVQ    (BX), R8
	MOVQ    R8, R9
	CMPQ    CX, $1
	JEQ     l2Last
	MOVQ    8(BX), R9
l2Last:
	VXORPS  Y0, Y0, Y0
	VXORPS  Y1, Y1, Y1
	VXORPS  Y2, Y2, Y2
	VXORPS  Y3, Y3, Y3
	XORQ    AX, AX
l232:
	CMPQ    AX, R10
	JGE     l28
	PREFETCHT0  (R9)(AX*4)
	PREFETCHT0  64(R9)(AX*4)
	VMOVUPS (SI)(AX*4), Y4
	VMOVUPS 32(SI)(AX*4), Y5
	VMOVUPS 64(SI)(AX*4), Y6
	VMOVUPS 96(SI)(AX*4), Y7
	VSUBPS  (R8)(AX*4), Y4, Y4
	VSUBPS  32(R8)(AX*4), Y5, Y5
	VSUBPS  64(R8)(AX*4), Y6, Y6
	VSUBPS  96(R8)(AX*4), Y7, Y7
	VFMADD231PS Y4, Y4, Y0
	VFMADD231PS Y5, Y5, Y1
	VFMADD231PS Y6, Y6, Y2
	VFMADD231PS Y7, Y7, Y3
	ADDQ    $32, AX
	JMP     l232
l28:
	CMPQ    AX, DX
	JGE     l2Sum
	PREFETCHT0  (R9)(AX*4)
	VMOVUPS (SI)(AX*4), Y4
	VSUBPS  (R8)(AX*4), Y4, Y4
	VFMADD231PS Y4, Y4, Y0
	ADDQ    $8, AX
	JMP     l28
l2Sum:
	VADDPS  Y1, Y0, Y0
	VADDPS  Y3, Y2, Y2
	VADDPS  Y2, Y0, Y0
	VEXTRACTF128 $1, Y0, X1
	VADDPS  X1, X0, X0
	VHADDPS X0, X0, X0
	VHADDPS X0, X0, X0
	VMOVSS  X0, (DI)
	ADDQ    $8, BX
	ADDQ    $4, DI
	DECQ    CX
	JNZ     l2Row
	VZEROUPPER
	RET

// func dot8RowsAVX2(q *int16, dim int, rows *unsafe.Pointer, n int, out *int32)
TEXT ·dot8RowsAVX2(SB), NOSPLIT, $0-40
	MOVQ q+0(FP), SI
	MOVQ dim+8(FP), DX
	MOVQ rows+16(FP), BX
	MOVQ n+24(FP), CX
	MOVQ out+32(FP), DI
	MOVQ DX, R10
	ANDQ $~63, R10

	// The first lines of all rows are asked for at once.
	MOVQ BX, R11
	MOVQ CX, R12
d8Ahead:
	MOVQ (R11), R9
	PREFETCHT0 (R9)
	PREFETCHT0 64(R9)
	ADDQ $8, R11
	DECQ R12
	JNZ  d8Ahead

d8Row:
	MOVQ    (BX), R8
	MOVQ    R8, R9
	CMPQ    CX, $1
	JEQ     d8Last
	MOVQ    8(BX), R9
d8Last:
	VPXOR   Y0, Y0, Y0
	VPXOR   Y1, Y1, Y1
	VPXOR   Y2, Y2, Y2
	VPXOR   Y3, Y3, Y3
	XORQ    AX, AX
d864:
	CMPQ    AX, R10
	JGE     d816
	PREFETCHT0  (R9)(AX*1)
	VPMOVSXBW (R8)(AX*1), Y4
	VPMOVSXBW 16(R8)(AX*1), Y5
	VPMOVSXBW 32(R8)(AX*1), Y6
	VPMOVSXBW 48(R8)(AX*1), Y7
	VPMADDWD (SI)(AX*2), Y4, Y4
	VPMADDWD 32(SI)(AX*2), Y5, Y5
	VPMADDWD 64(SI)(AX*2), Y6, Y6
	VPMADDWD 96(SI)(AX*2), Y7, Y7
	VPADDD  Y4, Y0, Y0
	VPADDD  Y5, Y1, Y1
	VPADDD  Y6, Y2, Y2
	VPADDD  Y7, Y3, Y3
	ADDQ    $64, AX
	JMP     d864
d816:
	CMPQ    AX, DX
	JGE     d8Sum
	PREFETCHT0  (R9)(AX*1)
	VPMOVSXBW (R8)(AX*1), Y4
	VPMADDWD (SI)(AX*2), Y4, Y4
	VPADDD  Y4, Y0, Y0
	ADDQ    $16, AX
	JMP     d816
d8Sum:
	VPADDD  Y1, Y0, Y0
	VPADDD  Y3, Y2, Y2
	VPADDD  Y2, Y0, Y0
	VEXTRACTI128 $1, Y0, X1
	VPADDD  X1, X0, X0
	VPSHUFD $0x4e, X0, X1
	VPADDD  X1, X0, X0
	VPSHUFD $0xb1, X0, X1
	VPADDD  X1, X0, X0
	VMOVD   X0, (DI)
	ADDQ    $8, BX
	ADDQ    $4, DI
	DECQ    CX
	JNZ     d8Row
	VZEROUPPER
	RET

// func widenAVX2(dst *int16, src *int8, n int)
TEXT ·widenAVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	XORQ AX, AX

widen16:
	VPMOVSXBW (SI)(AX*1), Y0
	VMOVDQU Y0, (DI)(AX*2)
	ADDQ    $16, AX
	CMPQ    AX, CX
	JLT     widen16
	VZEROUPPER
	RET

// func prefetchLines(p unsafe.Pointer, n int)
TEXT ·prefetchLines(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), SI
	MOVQ n+8(FP), CX

prefetchLine:
	PREFETCHT0 (SI)
	ADDQ    $64, SI
	SUBQ    $64, CX
	JGT     prefetchLine
	RET
