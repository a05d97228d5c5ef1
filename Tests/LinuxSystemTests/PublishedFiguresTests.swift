import LinuxSystem
import MemoryUnits
import Synchronization
import Testing

@Suite struct PublishedFiguresTests {
    @Test func `what is published is read, and before it nothing is`() throws {
        let figures = try PublishedFigures(name: "figures-test")
        let reader = try FigureReader(try figures.duplicateDescriptor())
        #expect(reader.read() == nil)
        figures.publish([1, 2, 3, .max])
        #expect(reader.read() == [1, 2, 3, .max])
        figures.publish(.zero)
        #expect(reader.read() == .zero)
    }

    @Test func `a reader outlives the writer`() throws {
        let reader = try {
            let figures = try PublishedFigures(name: "figures-test")
            figures.publish([7, 0, 0, 0])
            return try FigureReader(try figures.duplicateDescriptor())
        }()
        #expect(reader.read() == [7, 0, 0, 0])
    }

    @Test func `figures are read together or not at all`() throws {
        let figures = try PublishedFigures(name: "figures-test")
        let reader = try FigureReader(try figures.duplicateDescriptor())
        figures.publish([0, 100, 100, 100])
        let isOver = Atomic(false)
        let writer = try SystemThread(name: "writer") {
            // The four always make up the same sum.
            for number in UInt64(1)...200_000 {
                let part = number % 100
                figures.publish([3 * part, 100 - part, 100 - part, 100 - part])
            }
            isOver.store(true, ordering: .releasing)
        }
        var reads = 0
        while !isOver.load(ordering: .acquiring) {
            guard let found = reader.read() else { continue }
            reads += 1
            guard found.wrappedSum() == 300 else {
                Issue.record("\(found) was never published")
                break
            }
        }
        writer.join()
        #expect(reads > 0 && reader.read()?.wrappedSum() == 300)
    }

    @Test func `a file that could be cut off is refused`() throws {
        let short = try MemoryFile(name: "figures-test", size: ByteCount(100))
        #expect(throws: LinuxError.self) { _ = try FigureReader(try short.duplicateDescriptor()) }
    }
}
