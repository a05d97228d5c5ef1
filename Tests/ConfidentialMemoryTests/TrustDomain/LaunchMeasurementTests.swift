import FirmwareImage
import MemoryUnits
import Testing

@testable import ConfidentialMemory

@Suite struct LaunchMeasurementTests {
    private static let zeroes = [UInt8](repeating: 0, count: 4096)

    /// Known answers of the reference, computed by an independent program.
    @Test func `nothing measured`() {
        #expect(
            LaunchMeasurement().value.description
                == "38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da274edebfe76f65fbd51ad2f14898b95b")
    }

    @Test(
        arguments: [
            (
                [0],
                "8f3e9a8aca6784eab874f7aa4dda5d49104a88047f1f86695ef2a88f5691a90e34aac48ce45ffa1f5a23c7d62980d570"
            ),
            (
                [0, 0x1000],
                "d88b05f52648c041e7f0321f3905ec848a2d2654cf8c2158f67bc25ecd8a1a999f5f65f5350db0f732b59cfc66d6da3b"
            ),
        ] as [([UInt64], String)])
    func `unmeasured pages enter by their addresses`(pages: [UInt64], answer: String) {
        var measurement = LaunchMeasurement()
        for page in pages {
            Self.zeroes.withUnsafeBytes {
                measurement.load(GuestPhysicalAddress(page), contents: $0, measured: false)
            }
        }
        #expect(measurement.value.description == answer)
    }

    @Test(
        arguments: [
            (
                0, 0,
                "236f0efa607ff8843f1855d7ef80dc3dda8fb455787a186b8787212951eab0096e3193bb26f817c2b63c21f5e10f9938"
            ),
            (
                0x1000, 1,
                "15a8464628b6214951c4a1b57775507dd950263654e8790e257995b45013c84aba1d87a3bcbc1929b5f7db6d3e92cad6"
            ),
            (
                0xFFFF_F000, 0,
                "07f08f558c5e2593b33452cf00c12a165c07b027a36424ecfa15ebf39b5415e0ed62418458e4bfd77f16fec0f1568dc9"
            ),
        ] as [(UInt64, Int, String)])
    func `a measured page enters by its address and contents`(page: UInt64, step: Int, answer: String) {
        let contents = (0..<4096).map { UInt8(truncatingIfNeeded: $0 * step) }
        var measurement = LaunchMeasurement()
        contents.withUnsafeBytes { measurement.load(GuestPhysicalAddress(page), contents: $0, measured: true) }
        #expect(measurement.value.description == answer)
    }

    @Test func `the order of the records counts`() {
        var measurement = LaunchMeasurement()
        measurement.add(GuestPhysicalAddress(0))
        measurement.add(GuestPhysicalAddress(0x1000))
        Self.zeroes.withUnsafeBytes { zeroes in
            for offset in stride(from: 0, to: 4096, by: 256) {
                measurement.extend(
                    GuestPhysicalAddress(UInt64(offset)),
                    contents: UnsafeRawBufferPointer(rebasing: zeroes[offset..<offset + 256]))
            }
        }
        #expect(
            measurement.value.description
                == "507ee79f481b6d1febfbd07dfd779a7eed9b221b8833882d66b18167c4d3e0d9543dbd9239e37f17467fecde72baafe0")
    }

    @Test func `an empty plan measures as nothing`() {
        #expect(LaunchMeasurement.replaying(.empty) == LaunchMeasurement().value)
    }
}
