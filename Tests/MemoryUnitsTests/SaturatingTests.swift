import MemoryUnits
import Testing

@Suite struct SaturatingTests {
    static let unsigned: [UInt64] = [0, 1, 4096, 1 << 52, 1 << 63, .max - 1, .max]
    static let signed: [Int64] = [.min, .min + 1, -4096, -1, 0, 1, 4096, .max - 1, .max]

    /// What the exact result is, where it fits, and which limit it is beyond otherwise.
    static func clamped<Number: FixedWidthInteger>(_ exact: Double, _ result: Number, as type: Number.Type) -> Bool {
        if exact >= Double(Number.max) { return Double(result) >= Double(Number.max) * 0.999 }
        if exact <= Double(Number.min) { return Double(result) <= Double(Number.min) * 0.999 }
        return abs(Double(result) - exact) <= abs(exact) * 1e-9
    }

    @Test func `sums, differences and products end at the type's limits and nowhere else`() {
        for a in Self.unsigned {
            for b in Self.unsigned {
                let (x, y) = (Double(a), Double(b))
                #expect(Self.clamped(x + y, a.addingSaturated(b), as: UInt64.self), "\(a) + \(b)")
                #expect(a.subtractingSaturated(b) == (a > b ? a - b : 0), "\(a) - \(b)")
                #expect(Self.clamped(x * y, a.multipliedSaturated(by: b), as: UInt64.self), "\(a) * \(b)")
            }
        }
        for a in Self.signed {
            for b in Self.signed {
                let (sum, sumIsOver) = a.addingReportingOverflow(b)
                #expect(a.addingSaturated(b) == (sumIsOver ? (a < 0 ? .min : .max) : sum), "\(a) + \(b)")
                let (difference, isOver) = a.subtractingReportingOverflow(b)
                #expect(a.subtractingSaturated(b) == (isOver ? (a < 0 ? .min : .max) : difference), "\(a) - \(b)")
                let (product, productIsOver) = a.multipliedReportingOverflow(by: b)
                let limit: Int64 = (a < 0) == (b < 0) ? .max : .min
                #expect(a.multipliedSaturated(by: b) == (productIsOver ? limit : product), "\(a) * \(b)")
            }
        }
        #expect(Self.unsigned.saturatedSum() == .max && [UInt64]().saturatedSum() == 0)
    }

    @Test(
        arguments: [
            (0, 0), (-1, 0), (0.9, 0), (1.9, 1), (1e300, .max), (.infinity, .max), (-.infinity, 0), (.nan, 0),
            (0x1p64, .max),
            (0x1p63, 1 << 63),
        ] as [(Double, UInt64)])
    func `a number of any size becomes a count`(number: Double, count: UInt64) {
        #expect(UInt64(saturating: number) == count)
    }
}
