import MemoryUnits

@testable import ConfidentialMemory

/// The plainest map there is: a byte a page.
final class ArrayModel {
    let pages: Int
    let states: UnsafeMutablePointer<UInt8>

    init(pages: Int) {
        self.pages = pages
        states = .allocate(capacity: pages)
        states.initialize(repeating: 0, count: pages)
    }

    deinit { states.deallocate() }

    func set(_ range: Range<Int>, _ state: PageState) -> UInt64 {
        var changed: UInt64 = 0
        if range.count <= 4096 {
            for page in range where states[page] != state.rawValue { changed += 1 }
        } else {
            changed = UInt64(range.count) - counts(range)[Int(state.rawValue)]
        }
        (states + range.lowerBound).update(repeating: state.rawValue, count: range.count)
        return changed
    }

    func counts(_ range: Range<Int>) -> [UInt64] {
        var result: [UInt64] = [0, 0, 0, 0]
        var page = range.lowerBound
        // Eight pages a step: big ranges are mostly uniform, and the tests run unoptimised.
        let words = UnsafeRawPointer(states)
        while page < range.upperBound {
            if page + 8 <= range.upperBound {
                let word = words.loadUnaligned(fromByteOffset: page, as: UInt64.self)
                let first = word & 0xFF
                if word == first &* 0x0101_0101_0101_0101 {
                    result[Int(first)] += 8
                    page += 8
                    continue
                }
            }
            result[Int(states[page])] += 1
            page += 1
        }
        return result
    }

    func runs(_ range: Range<Int>) -> [PageRun] {
        var result: [PageRun] = []
        var start = range.lowerBound
        for page in range where page + 1 == range.upperBound || states[page + 1] != states[page] {
            result.append(run(start..<(page + 1), PageState(rawValue: states[page])!))
            start = page + 1
        }
        return result
    }

    func next(_ state: PageState, _ range: Range<Int>) -> GuestFrameNumber? {
        for page in range where states[page] == state.rawValue { return GuestFrameNumber(UInt64(page)) }
        return nil
    }
}

/// Pages by plain numbers, which is shorter in tests.
func frames(_ range: Range<Int>) -> Range<GuestFrameNumber> {
    GuestFrameNumber(UInt64(range.lowerBound))..<GuestFrameNumber(UInt64(range.upperBound))
}

func run(_ range: Range<Int>, _ state: PageState) -> PageRun { PageRun(frames(range), state) }
