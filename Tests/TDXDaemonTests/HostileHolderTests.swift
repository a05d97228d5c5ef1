import ControlInterface
import LinuxSystem
import Testing

@testable import TDXDaemon

/// A holder that was taken over says what it likes.
@Suite(.serialized) struct HostileHolderTests {
    @Test func `a page of figures may say anything`() throws {
        let published = try PublishedFigures(name: "figures")
        let reader = try FigureReader(try published.duplicateDescriptor())
        let domain = Sample.figures(Sample.record("web1"))
        let numbers: [UInt64] = [0, 1, 1 << 51, 1 << 52, 1 << 63, .max]
        for a in numbers {
            for b in numbers {
                published.publish(SIMD4(a, b, b, a))
                let counts = try #require(reader.read())
                let figures = domain.with(counts)
                #expect(figures.privateBytes >= min(b, 1 << 52))
                let inventory = Inventory(
                    [figures, figures], answered: [figures.id], unproven: [], keysTaken: 1, keysDraining: 0)
                // It never looks as if there were less than there may be.
                #expect(b == 0 || inventory.privateBytes > 0)
            }
        }
    }
}
