internal import ControlInterface

/// A size for people: in the largest binary unit that it reaches, with one decimal unless that is 0, rounded down.
func formatted(bytes: UInt64) -> String {
    let units: [(shift: UInt64, name: String)] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")]
    for unit in units where bytes >= 1 << unit.shift {
        let whole = bytes >> unit.shift
        let rest = bytes & (1 << unit.shift - 1)
        if rest == 0 { return "\(whole) \(unit.name)" }
        // Tenths, rounded down: a size is never shown as more than it is.
        let tenths = ((rest >> (unit.shift - 10)) * 10) >> 10
        // "1.0" beside "1" would look like a measurement beside a size.
        return tenths == 0 ? "\(whole) \(unit.name)" : "\(whole).\(tenths) \(unit.name)"
    }
    return "\(bytes) B"
}

/// A time for people, with three digits that count.
func formatted(milliseconds: Double) -> String {
    switch milliseconds {
    case ..<1: rounded(milliseconds * 1000, 0) + " µs"
    case ..<10: rounded(milliseconds, 2) + " ms"
    case ..<100: rounded(milliseconds, 1) + " ms"
    case ..<10_000: rounded(milliseconds, 0) + " ms"
    default: rounded(milliseconds / 1000, 1) + " s"
    }
}

func formatted(address: UInt64) -> String {
    let digits = String(address, radix: 16)
    return "0x" + String(repeating: "0", count: max(0, 10 - digits.count)) + digits
}

/// The backend, and that the TDX module is emulated wherever it is.
func formatted(backend: Backend, emulated: Bool) -> String {
    emulated ? "\(backend.rawValue) (emulated)" : backend.rawValue
}

/// A key id, which on an emulated backend is a number of the software module's own.
func formatted(keyID: UInt16?, emulated: Bool) -> String {
    guard let keyID else { return "kept by the kernel" }
    return "\(keyID)" + (emulated ? " (emulated)" : "")
}

private func rounded(_ value: Double, _ decimals: Int) -> String {
    guard value.isFinite else { return "?" }
    var scale = 1.0
    for _ in 0..<decimals { scale *= 10 }
    let scaled = (value * scale).rounded()
    // A server may send any number; digits that a Double does not have are not made up.
    guard abs(scaled) < 9e15 else { return String(describing: value) }
    guard decimals > 0 else { return String(Int64(scaled)) }
    let (whole, fraction) = Int64(scaled).quotientAndRemainder(dividingBy: Int64(scale))
    let digits = String(fraction.magnitude)
    return "\(whole)." + String(repeating: "0", count: decimals - digits.count) + digits
}
