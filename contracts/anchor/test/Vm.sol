// SPDX-License-Identifier: EUPL-1.2
pragma solidity 0.8.37;

struct Log {
    bytes32[] topics;
    bytes data;
    address emitter;
}

/// The few cheat codes that the tests need; forge answers them at one fixed address.
interface Vm {
    function prank(address sender) external;
    function roll(uint256 number) external;
    function expectRevert(bytes calldata data) external;
    function expectEmit(bool topic1, bool topic2, bool topic3, bool data, address emitter) external;
    function recordLogs() external;
    function getRecordedLogs() external returns (Log[] memory);
    function assume(bool condition) external;
}

Vm constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
