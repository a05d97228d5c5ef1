import CPeers
import ConfidentialMemory
import MemoryUnits

/// The attribute map under measurement. The loops are methods that borrow the map once, so that no access to a class
/// property is measured with each call.
final class MapSubject {
    var map = PageAttributeMap()
    let pages: UInt32

    init(pages: UInt32) { self.pages = pages }

    func clear() { map = PageAttributeMap() }

    func fill(permille: UInt32) {
        var run: UInt32 = 0
        var state = peer_pattern(0, permille)
        for page in 1..<pages {
            let next = peer_pattern(page, permille)
            if next == state { continue }
            if state { map.set(GuestFrameNumber(UInt64(run))..<GuestFrameNumber(UInt64(page)), to: .private) }
            run = page
            state = next
        }
        if state { map.set(GuestFrameNumber(UInt64(run))..<GuestFrameNumber(UInt64(pages)), to: .private) }
    }

    func replay(_ steps: [peer_step]) -> Double {
        func loop(_ map: inout PageAttributeMap) -> Double {
            cpuNanoseconds {
                for step in steps {
                    let first = GuestFrameNumber(UInt64(step.first))
                    map.set(
                        first..<first + PageCount(UInt64(step.pages)), to: step.state == 1 ? .private : .shared)
                }
            }
        }
        return loop(&map)
    }

    func set(_ numbers: [UInt32], _ states: [UInt8]) -> Double {
        func loop(_ map: inout PageAttributeMap) -> Double {
            cpuNanoseconds {
                for index in numbers.indices {
                    let first = GuestFrameNumber(UInt64(numbers[index]))
                    map.set(first..<first + PageCount(1), to: states[index] == 1 ? .private : .shared)
                }
            }
        }
        return loop(&map)
    }

    func lookup(_ numbers: [UInt32]) -> Double {
        func loop(_ map: borrowing PageAttributeMap) -> Double {
            cpuNanoseconds {
                var sum: UInt64 = 0
                for number in numbers { sum &+= UInt64(map[GuestFrameNumber(UInt64(number))].rawValue) }
                peer_keep(sum)
            }
        }
        return loop(map)
    }

    func count(_ numbers: [UInt32], _ lengths: [UInt32]) -> Double {
        func loop(_ map: borrowing PageAttributeMap) -> Double {
            cpuNanoseconds {
                var sum: UInt64 = 0
                for index in numbers.indices {
                    let first = GuestFrameNumber(UInt64(numbers[index]))
                    sum &+= map.counts(in: first..<first + PageCount(UInt64(lengths[index])))[.private].rawValue
                }
                peer_keep(sum)
            }
        }
        return loop(map)
    }

    func iterate(_ first: UInt32, _ end: UInt32) -> Double {
        func loop(_ map: borrowing PageAttributeMap) -> Double {
            cpuNanoseconds {
                var (sum, runs) = (UInt64(0), UInt64(0))
                map.forEachRun(in: GuestFrameNumber(UInt64(first))..<GuestFrameNumber(UInt64(end))) { run in
                    if run.state == .private { sum &+= run.frames.pageCount.rawValue }
                    runs &+= 1
                    return true
                }
                peer_keep(sum &+ runs)
            }
        }
        return loop(map)
    }
}
