import LinuxSystem
import MemoryUnits
import Testing

@testable import TDXDaemon

@Suite struct HeapKeeperTests {
    @Test func `freed pages are looked for once a process is larger than it was at its smallest`() {
        let keeper = HeapKeeper(startingAt: .mebibytes(20))
        #expect(!keeper.isWorthwhile(resident: .mebibytes(28)))
        #expect(keeper.isWorthwhile(resident: .mebibytes(29)))
        // Also when the first look gave nothing back: what is in use then may be free later.
        #expect(keeper.isWorthwhile(resident: .mebibytes(29)))
        #expect(!keeper.isWorthwhile(resident: .mebibytes(18)))
        #expect(keeper.isWorthwhile(resident: .mebibytes(27)))
    }
}
