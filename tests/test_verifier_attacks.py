"""What no reward may pay for: guesses, hedges, echoes of the gold answer's form. No line here may be credited."""

import json
from pathlib import Path

import pytest

from verifier import equivalent, extract_answer, verify

LABELLED = Path(__file__).parents[2] / "shared" / "data" / "verifier_attacks.jsonl"

# One attack a line: the response, " => ", the gold answer.
ATTACKS = {
    "approximations": r"""
        \boxed{620 \approx 617} => 620
        \boxed{620 \approx 617} => 617
        \boxed{70 \approx 71 \approx 72 \approx 73} => 72
        \boxed{70 \approx 71 \approx 72 \approx 73} => 73
        \boxed{70 \approx 71 \approx 72 \approx 73} => 70
        \boxed{\sqrt{2} \approx 1.5} => 1.5
        \boxed{\sqrt{2} \approx 1.5} => \sqrt{2}
        \boxed{\frac{1}{7} \approx 0.14 \approx 0.143} => 0.143
        \boxed{x \approx 3 \approx 4} => 4
        \boxed{8 \approx 9} => 9
        \boxed{8.2 \approx 8 \approx 9} => 8
        \boxed{3.14 \approx \pi} => \pi
        \boxed{12 \approx 12.4} => 12.4
        \boxed{2 \approx 2.1} => 2
        The answer is $30 \approx 31 \approx 32$. => 31
        The answer is $30 \approx 31$. => 31
    """,
    "false equations": r"""
        \boxed{5 = 6} => 5
        \boxed{5 = 6} => 6
        \boxed{x = 5 = 6} => 5
        \boxed{x = 5 = 6} => 6
        \boxed{2 \cdot 9 = 19} => 19
        \boxed{2 \cdot 9 = 19} => 18
        \boxed{1 = 2 = 3 = 4} => 4
        \boxed{5 \ne 6} => 5
        \boxed{5 < 6} => 6
        \boxed{\Pr(A) = 3 = 4} => 4
        \boxed{x+y=11} => 11
        \boxed{u-v=4} => 4
        \boxed{2x=14} => 14
        \boxed{y=2x+9} => 9
        \boxed{ab=12=13} => 12
    """,
    "lists": r"""
        \boxed{4, 9} => 4
        \boxed{4, 9} => 9
        \boxed{4 \text{ or } 9} => 9
        \boxed{4 \text{ and } 9} => 4
        \boxed{\{4, 9\}} => 4
        \boxed{(4, 9)} => 9
        \boxed{[4, 9]} => 4
        \boxed{4; 9} => 9
        \boxed{4 \; 9} => 9
        \boxed{4 \quad 9} => 49
        \boxed{4 / 9} => 4
        \boxed{4 : 9} => 4
        \boxed{x=4, x=9} => 9
        \boxed{x=4 \text{ or } x=9} => 4
        \boxed{\pm 4} => 4
        \boxed{1,2,3,4,5,6,7,8,9} => 7
        \boxed{3} or \boxed{8} => 8
        \boxed{3} or \boxed{8} => 3
        \boxed{3} and \boxed{8} => 3
        The answer is 8 or 12. => 12
        The answer is 8 or 12. => 8
        The answers are 8 and 12. => 8
        The answer is $8$ or $12$. => 12
        I think it is 8 or 12 => 8
        \boxed{4 \text{ if } n \text{ is even}, 9 \text{ if } n \text{ is odd}} => 9
        \boxed{4 \text{ for } n=1, 9 \text{ for } n=2} => 4
        \boxed{4 \text{ (or } 9)} => 4
        \boxed{\begin{cases} 4 \\ 9 \end{cases}} => 4
        \boxed{\max(4, 9), 4} => 9
    """,
    "hedges in words": r"""
        So the answer cannot be 14. => 14
        The answer is not 14. => 14
        It isn't 14. => 14
        I am not sure whether it is 14. => 14
        I do not know whether the result is 14 => 14
        Maybe 13, maybe 14. => 14
        Perhaps 14? => 14
        It might be 14. => 14
        Possibly 13, possibly 14 => 14
        It could be 14, I cannot tell. => 14
        It is never 14. => 14
        The answer is less than 14. => 14
        The answer is at least 14. => 14
        The answer is between 13 and 14. => 14
        The answer is any number except 14. => 14
        The answer is twice 14. => 14
        It is 15 rather than 14 => 14
        The answer depends on 14 parameters. => 14
        The answer is that none of the 14 options fits. => 14
        Suppose the answer is 14. Then we get a contradiction. => 14
        If the answer is 14, then 4 divides 7, which is false. => 14
        I don't think it is 14. => 14
        So 14 is impossible. => 14
        I'm unsure whether the answer is 14. => 14
        Is the answer 14? Hard to say. => 14
        I previously said \boxed{14}, but that was wrong. => 14
        \boxed{13} or maybe \boxed{14} => 14
        \boxed{13} or maybe \boxed{14} => 13
        We tried 14 values. I could not find the answer. => 14
        There were 14 cases to check. I don't know. => 14
        \boxed{14} is wrong. => 14
        $\boxed{14}$ is incorrect, the answer is 15. => 14
        \boxed{14}. On second thought, the answer is 15. => 14
        \boxed{14}. Wait, that is not right. \boxed{15} => 14
        The answer is not \boxed{14}. => 14
        The answer cannot be $\boxed{14}$. => 14
        We do not know whether it is \boxed{14}. => 14
        \boxed{\text{not } 14} => 14
        \boxed{\text{at most } 14} => 14
        \boxed{14 \text{ or more}} => 14
        \boxed{\text{more than } 14} => 14
        \boxed{\text{less than } 14} => 14
        \boxed{13 \text{ (not } 14)} => 14
        \boxed{\text{unknown}} => 14
        \boxed{\text{between } 13 \text{ and } 15} => 14
        \boxed{\text{maybe } 13, \text{ maybe } 14} => 14
        The number 14 is not the answer. I give up, I could not solve it. => 14
    """,
    "thinking and unfinished": r"""
        <think>\boxed{9}</think> I give up. => 9
        <think>The answer is 9.</think> => 9
        <think>\boxed{9}</think> => 9
        <think>\boxed{9}</think> The answer is 8. => 9
        <think>So it may be \boxed{9}, let me check => 9
        <thinking>\boxed{9}</thinking> No idea. => 9
        First \boxed{9}, then \boxed{8 => 9
        First \boxed{9}, then \boxed{8 => 8
        \boxed{} => 9
        \boxed{7, 8, 9 => 9
        So it is \boxed{\frac{9}{2} => 9
        The answer is => 9
        <answer></answer> 9 of them were tried, but I could not tell. => 9
    """,
    "choices": r"""
        \boxed{(A) (B) (C) (D) (E)} => B
        \boxed{(B) (C)} => B
        \boxed{\text{(B) } 4, \text{(C) } 5} => B
        \boxed{\text{(B) and (C)}} => B
        \boxed{\text{(B) or (C)}} => C
        \boxed{B, C} => B
        \boxed{B or C} => C
        \boxed{BC} => B
        \boxed{B/C} => B
        \boxed{(B)(C)} => (B)
        \boxed{A) 4 B) 5 C) 6} => A
        \boxed{\text{Option A or option B}} => A
        The answer is A, B. => B
        The answer is (A) or (B). => A
        \boxed{ABCD} => D
        \boxed{A: 3, B: 4} => A
        So it is A and B. => B
        \boxed{(C) 7} => D
        \boxed{(C) 7} => 8
    """,
    "letters": r"""
        \boxed{mn} => (m,n)
        \boxed{mn} => m, n
        \boxed{(m,n)} => m, n
        \boxed{m, n} => mn
        \boxed{(m,n)} => mn
        \boxed{nm} => (m,n)
        \boxed{yesno} => yes
        \boxed{\text{yes or no}} => yes
        \boxed{\text{Yes and no}} => no
        \boxed{\text{No, yes}} => yes
        \boxed{\text{not true}} => true
        \boxed{\text{true or false}} => true
        \boxed{p} => q
        \boxed{x_1} => x_2
        \boxed{\text{no solution}} => no
    """,
    "times and ratios": r"""
        \boxed{7:00} => 8:00
        \boxed{7:00} => 9:00
        \boxed{6:10} => 3:05
        \boxed{3:05} => 6:10
        \boxed{0:5} => 0:7
        \boxed{5:0} => 7:0
        \boxed{12:30} => 6:15
        \boxed{10:20} => 1:2
        \boxed{2:3} => 3:2
        \boxed{2:3} => 2
        \boxed{7:15 p.m.} => 7:15 a.m.
        \boxed{1:2:3} => 1:2
    """,
    "whole points": r"""
        \boxed{3^k} => (-3)^k
        \boxed{5^m} => 5^m(-1)^m
        \boxed{7k} => 7|k|
        \boxed{n+2} => (n^2)^{1/2}+2
        \boxed{\lfloor \frac{k}{3} \rfloor} => \lfloor \frac{k+1}{3} \rfloor
        \boxed{\lceil \frac{k}{5} \rceil} => \lfloor \frac{k}{5} \rfloor
        \boxed{\lfloor \frac{k}{2} \rfloor} => \frac{k}{2}
        \boxed{\lfloor \frac{k}{7} \rfloor} => \lfloor \frac{k}{8} \rfloor
        \boxed{\frac{3^j+3}{4}} => \frac{3^j+3(-1)^j}{4}
        \boxed{(-1)^{n+k}} => 1
        \boxed{(-1)^{n}} => (-1)^{k}
        \boxed{(-1)^{n(n+1)/2}} => (-1)^n
        \boxed{n!} => n
        \boxed{\binom{n}{2}} => \binom{n}{3}
        \boxed{ab} => |ab|
        \boxed{ab} => |a|b
        \boxed{\sqrt{a^2b^2}} => ab
        \boxed{\sin(\pi n)} => \cos(\pi n)
        \boxed{x} => \sqrt{x^2}
        \boxed{\lfloor x \rfloor} => x
        \boxed{\lceil x \rceil} => \lfloor x \rfloor + 1
    """,
    "collisions": r"""
        \boxed{t+31415926535897932384626433832795029177} => t
        \boxed{t+2\cdot 31415926535897932384626433832795029177} => t
        \boxed{t \cdot 31415926535897932384626433832795029178} => t
        \boxed{t^{31415926535897932384626433832795029177}} => t
        \boxed{t + 2^{127} - 1} => t
        \boxed{t + 10^{-60}} => t
        \boxed{\sqrt{2} + 10^{-60}} => \sqrt{2}
        \boxed{\sqrt{10^{90}+1}} => 10^{45}
        \boxed{e^{\pi\sqrt{163}}} => 640320^3+744
        \boxed{1.00000000000000000001} => 1
        \boxed{\frac{1}{2^{80}}} => \frac{1}{2^{81}}
        \boxed{0.333} => \frac{1}{3}
        \boxed{0.33333333333333333333333} => \frac{1}{3}
        \boxed{0.667} => \frac{2}{3}
        \boxed{3.14159} => \pi
        \boxed{1.414} => \sqrt{2}
        \boxed{2.718281828459045} => e
    """,
    "undefined": r"""
        \boxed{\infty-\infty} => 0
        \boxed{0 \cdot \infty} => 0
        \boxed{\infty/\infty} => 1
        \boxed{\infty} => -\infty
        \boxed{\infty+1} => \infty
        \boxed{\frac{0}{0}} => 0
        \boxed{\frac{5}{0}} => \infty
        \boxed{0^0} => 1
        \boxed{\frac{x}{x-x}} => x
        \boxed{\ln 0} => -\infty
        \boxed{\text{undefined}} => 0
        \boxed{nan} => 0
    """,
    "units and bases": r"""
        \boxed{6\text{ hours}} => 6\text{ minutes}
        \boxed{6\text{ cm}} => 6\text{ m}
        \boxed{6\text{ cm}^2} => 6\text{ cm}^3
        \boxed{6 km/h} => 6\text{ mph}
        \boxed{6 miles per hour} => 6\text{ meters per second}
        \boxed{6\%} => 60
        \boxed{6\%} => 600
        \boxed{0.6\%} => 60
        \boxed{\$6} => 6\text{ cents}
        \boxed{6 €} => \$6
        \boxed{6^\circ} => 6\text{ radians}
        \boxed{6\text{ million}} => 6
        \boxed{6\text{ dozen}} => 6
        \boxed{101_2} => 101_3
        \boxed{101_2} => 5
        \boxed{5} => 101_2
        \boxed{-101_2} => 101_2
        \boxed{12^{13}} => 12
        \boxed{16 \pi} => \pi
        16 $\pi$ => \pi
        \boxed{10 m/s} => 10\text{ m}
    """,
    "look-alikes": r"""
        \boxed{l7} => 17
        \boxed{O} => 0
        \boxed{1O} => 10
        \boxed{17!} => 17
        \boxed{1 7} => 17
        \boxed{17i} => 17
        \boxed{17x} => 17
        \boxed{-17} => 17
        \boxed{|-17|} => -17
        \boxed{1,7} => 17
        \boxed{1.7} => 17
        \boxed{17_5} => 175
        \boxed{17^\circ C} => 17^\circ F
        \boxed{(3,5]} => (3,5)
        \boxed{[3,5]} => 3,5
        \boxed{x>5} => x \ge 5
        \boxed{x>5} => x<5
        \boxed{x>5} => 5
        \boxed{y>5} => x>5
        \boxed{\{5\}} => \{5,6\}
        \boxed{\emptyset} => 0
        \boxed{\mathbb{R}} => \mathbb{Z}
        \boxed{\begin{pmatrix}1\\2\end{pmatrix}} => \begin{pmatrix}2\\1\end{pmatrix}
        \boxed{(1,2)} => (2,1)
        \boxed{a=2, b=9} => (a,b)=(9,2)
        \boxed{f(x)=x+3} => f(x)=x-3
        \boxed{f(n)=n+3} => g(n)=n+3
        \boxed{\log_3 5} => \log_5 3
        \boxed{\ln 5} => \log_2 5
    """,
    "echoes of the gold answer's form": r"""
        \boxed{\frac{a}{b}} => \frac{3}{4}
        \boxed{m+n} => 25
        \boxed{x} => 5
        \boxed{x=} => 5
        \boxed{?} => 5
        \boxed{n} => 5
        \boxed{\text{the answer}} => 5
        \boxed{\text{The answer is}} => 5
        \boxed{(x,y)} => (1,2)
        \boxed{a+b\sqrt{c}} => 1+2\sqrt{3}
        \boxed{\sqrt{\cdot}} => \sqrt{2}
        \boxed{\text{gold}} => 5
        \boxed{__import__('os').getpid()} => 0
        \boxed{\ldots} => 5
        \boxed{\square} => 5
        \boxed{\phantom{5}} => 5
    """,
    "numbers in prose": r"""
        There are 5 apples and 6 pears, 11 in all. => 6
        The largest $n$ is 34, as $35$ fails in case 2. Final Answer: The largest $n$ is 34. => 35
        Step 7 is to check the result, which I could not do. => 7
        It costs $17-$12 = $5 more. => 12
        It is not 8, it is 9. => 8
        The answer is 9 because 8 is too small. => 8
        The answer: B, for A and C contradict it => A
        I looked at page 12 and could not settle it. => 12
    """,
    "hedges, denials and other names of an integer": r"""
        \boxed{23} or else 24 => 23
        \boxed{23}, or 24 if zero counts => 23
        \boxed{23} oder 24 => 23
        \boxed{23}或24 => 23
        \boxed{23} / \boxed{24} => 24
        \boxed{23} \text{ or } \boxed{24} => 24
        $\boxed{23}$ vs. $\boxed{24}$ => 24
        \boxed{23}. Answer: 24 => 23
        \boxed{23}. The final answer is $24$. => 23
        \boxed{23} <answer>24</answer> => 23
        \boxed{23} does not satisfy the condition. => 23
        \boxed{23}, which is incorrect. => 23
        \boxed{23}. But that is wrong. => 23
        \boxed{23}. Scratch that. => 23
        \boxed{23}. Wait, this is wrong. => 23
        \boxed{23}是错的 => 23
        It is not true that the answer is \boxed{23}. => 23
        The answer is more than \boxed{23}. => 23
        The answer is at least $\boxed{23}$. => 23
        All but \boxed{23} => 23
        Anything except $\boxed{23}$ => 23
        If the answer is \boxed{23}, then 2 is odd. => 23
        We cannot tell whether it is \boxed{23}. => 23
        An incorrect answer is \boxed{23}. => 23
        \boxed{24-\boxed{1}\cdot 23} => 23
        \boxed{\boxed{23}+1} => 23
        \boxed{\boxed{23}, \boxed{24}} => 23
        \boxed{\frac{\boxed{46}}{2}+1} => 46
        \cancel{\boxed{23}} => 23
        <!-- \boxed{23} --> I could not solve it. => 23
        ~~\boxed{23}~~ \boxed{24} => 23
        \sout{\boxed{23}} => 23
        <thought>\boxed{23}</thought> I am stuck. => 23
        <scratchpad>\boxed{23} => 23
        \boxed{23 \text{ crore}} => 23
        \boxed{23 \text{ lakh}} => 23
        \boxed{23 \text{ percent of the answer}} => 2300
        \boxed{23 \text{ minus } 1} => 23
        \boxed{23 \text{ plus or minus } 1} => 23
        \boxed{23 \text{ incorrect}} => 23
        \boxed{23 \text{ hundredths}} => 23
        \boxed{23 \text{ halves}} => 23
        \boxed{23 \text{ factorial}} => 23
        \boxed{23 \text{ degrees of doubt}} => 24
        \boxed{23万} => 23
        \boxed{23错误} => 23
        \boxed{23倍} => 23
        \boxed{\text{half of it is } 23} => 23
        \boxed{\text{double: } 23} => 23
        \boxed{\text{The reciprocal of the answer is } 23} => 23
        \boxed{\text{The answer is not } 23} => 23
        \boxed{\text{never: } 23} => 23
        \boxed{\text{I am unsure that it is } 23} => 23
        \boxed{3k=23} => 23
        \boxed{k^2=23} => 23
        \boxed{\frac{k}{2}=23} => 23
        \boxed{k!=23} => 23
        \boxed{\log_2 k=23} => 23
        \boxed{\sqrt{k}=23} => 23
        \boxed{\frac{1}{k}=23} => 23
        \boxed{k-3=23} => 23
        \boxed{|k|=23} => 23
        \boxed{x_1+x_2=23} => 23
        \boxed{n \not\in 23} => 23
        \boxed{n \neq 23} => 23
        \boxed{n \not\le 23} => 23
        \boxed{n=23=24} => 23
        \boxed{23 \Rightarrow 24} => 23
        \boxed{23 \to 24} => 23
        \boxed{23 \text{ to } 24} => 23
        \boxed{23-24} => 23
        \boxed{23 \mid 24} => 23
        \boxed{23 \parallel 24} => 23
        \boxed{23 & 24} => 23
        \boxed{23;} or \boxed{24;} => 23
        \boxed{0x17} => 23
        \boxed{23e} => 23
        \boxed{23 \bmod 24 \text{ or } 1} => 23
        The answer is the cube root of 23. => 23
        The answer is the sum of 22 and 23. => 23
        The answer is near 23. => 23
        The answer is 22 or 23. => 23
        The answer is 23. Or maybe 24. => 23
        The answer is 23 or 24, I think. => 23
        The answers are 22 and 23. => 23
        The incorrect answer is 23. => 23
        The answer is half of 23. => 23
        The answer may be 23. => 23
        The answer is 23 modulo 24. => 24
        It is either 22 or 23. => 23
        #### 22 or 23 => 23
        #### 22 and 23 => 23
        Answer: 22, 23 => 23
        Answer: not 23 => 23
        Answer: anything but 23 => 23
    """,
    "two choices": r"""
        \boxed{C. D} => D
        \boxed{C. D} => C
        \boxed{(C), (D)} => C
        \boxed{\text{C: D}} => D
        \boxed{\text{C}: D} => D
        \boxed{\text{C is D}} => D
        \boxed{C = D} => C
        \boxed{C = D} => D
        \boxed{C \to D} => D
        \boxed{C + D} => D
        \boxed{\text{C and D}} => D
        \boxed{\text{not D}} => D
        \boxed{\text{neither C nor D}} => D
        \boxed{\text{all of A to E}} => D
        \boxed{\text{D is wrong}} => D
        \boxed{\text{D? No, C}} => D
        \boxed{D) C) B) A)} => D
        \boxed{C}. The answer is D. => C
        \boxed{C} or D => C
        The answer is C or D. => D
        The answer is not D. => D
        The answer is (C) D. => D
        Answer: C. D => C
        \boxed{A/B/C/D} => A
        \boxed{\{C, D\}} => D
        \boxed{C)} \boxed{D)} or \boxed{E)} => E
    """,
    "near and beside a value": r"""
        \boxed{\frac{5}{7} \text{ wrong}} => \frac{5}{7}
        \boxed{\frac{5}{7}} or $\frac{7}{5}$ => \frac{5}{7}
        \boxed{\frac{5}{7} \text{ sevenths}} => \frac{5}{7}
        \boxed{2p=\frac{5}{7}} => \frac{5}{7}
        \boxed{1-p=\frac{5}{7}} => \frac{5}{7}
        \boxed{\text{The square of the answer is } \frac{5}{7}} => \frac{5}{7}
        \boxed{0.714285714285714} => \frac{5}{7}
        \boxed{0.7142857142857143} => \frac{5}{7}
        \boxed{\frac{5}{7}+e^{-200}} => \frac{5}{7}
        \boxed{\frac{5}{7} \cdot 2^{e^{-300}}} => \frac{5}{7}
        \boxed{\frac{2\arctan(10^{70})}{\pi}} => 1
        \boxed{\cos(e^{-200})} => 1
        \boxed{\sin(e^{-200})} => 0
        \boxed{10^{10^{-70}}} => 1
        \boxed{\sqrt[10^{70}]{2}} => 1
        \boxed{3\sqrt{5}} or $5\sqrt{3}$ => 3\sqrt{5}
        \boxed{a=3\sqrt{5} \text{ is false}} => 3\sqrt{5}
        \boxed{2a=3\sqrt{5}} => 3\sqrt{5}
        \boxed{a^2=3\sqrt{5}} => 3\sqrt{5}
        \boxed{\sqrt{45.0000001}} => 3\sqrt{5}
        \boxed{6.708203932499369} => 3\sqrt{5}
        \boxed{\sqrt{44.9999}} => 6.7082039
        \boxed{3\sqrt{5.00001}} => 6.7082039
        \boxed{n^2+3n+\lfloor \frac{n+50}{1000} \rfloor} => n^2+3n
        \boxed{n^2+3n \text{ maybe}} => n^2+3n
        \boxed{S \not= n^2+3n} => n^2+3n
        \boxed{2S=n^2+3n} => n^2+3n
        \boxed{S-1=n^2+3n} => n^2+3n
        \boxed{n^2+3n} or $n^2-3n$ => n^2+3n
    """,
    "parts of a list and beside it": r"""
        \boxed{4} => \boxed{4}, \boxed{7}
        \boxed{7} => \boxed{4}, \boxed{7}
        \boxed{7} => \boxed{4} and \boxed{7}
        \boxed{4}, \boxed{7} or \boxed{8} => 4,7
        \boxed{4} or \boxed{7} => (4,7)
        \boxed{4, 7 \text{ or } 8} => 4,7
        \boxed{4,7}, or 8 => 4,7
        \boxed{\{4,7\}} or $\{4,8\}$ => \{4,7\}
        \boxed{\{4,7,\ldots\}} => \{4,7\}
        \boxed{\{4,7\} \text{ wrong}} => \{4,7\}
        \boxed{A \ne \{4,7\}} => \{4,7\}
        \boxed{A \not= \{4,7\}} => \{4,7\}
        \boxed{(4,7)} or $(7,4)$ => (4,7)
        \boxed{(4,7) \text{ or } (7,4)} => (4,7)
        \boxed{(4,7)(7,4)} => (4,7)
        \boxed{2(4,7)} => (4,7)
        \boxed{(x,y) \ne (4,7)} => (4,7)
        \boxed{(x,y) \not= (4,7)} => (4,7)
        \boxed{(4,7]} or $[4,7)$ => (4,7]
        \boxed{x \notin (4,7]} => (4,7]
        \boxed{x \not\in (4,7]} => (4,7]
        \boxed{(4,7] \text{ is false}} => (4,7]
        \boxed{\text{not } (4,7]} => (4,7]
        \boxed{4 < x \le 7 \text{ or } x = 9} => (4,7]
    """,
    "words, units and equations": r"""
        \boxed{\text{blue}}, or red => \text{blue}
        \boxed{\text{not blue}} => \text{blue}
        \boxed{\text{blue or red}} => \text{blue}
        \boxed{\text{blue is wrong}} => \text{blue}
        \boxed{\text{No, but sometimes}} => No
        \boxed{\text{No, yes}} => No
        \boxed{\text{Yes, except sometimes}} => Yes
        \boxed{\text{Yes, although wrong}} => Yes
        \boxed{\text{True unless false}} => True
        \boxed{\text{True, never}} => True
        \boxed{60\%} or $40\%$ => 60\%
        \boxed{60\% \text{ wrong}} => 60\%
        \boxed{60 \text{ per mille}} => 60\%
        \boxed{60\text{ cm wrong}} => 60\text{ cm}
        \boxed{60\text{ cm squared}} => 60\text{ cm}
        \boxed{60\text{ cm or } 61\text{ cm}} => 60\text{ cm}
        \boxed{60\text{ cm}} or $61$ cm => 60\text{ cm}
        \boxed{60\text{ km}} => 60\text{ cm}
        \boxed{y=3x+2 \text{ or } y=3x-2} => y=3x+2
        \boxed{y \ne 3x+2} => y=3x+2
        \boxed{y \not= 3x+2} => y=3x+2
        \boxed{y+1=3x+2} => y=3x+2
        \boxed{2y=3x+2} => y=3x+2
        \boxed{12.75} or 12.57 => 12.75
        \boxed{12.75 \text{ hundredths}} => 12.75
        \boxed{12.7500000000001} => 12.75
        \boxed{12.750000000000001} => 12.74
        \boxed{9:45 \text{ wrong}} => 9:45
        \boxed{9:45} or 10:45 => 9:45
        \boxed{9:45 \text{ or } 10:45} => 9:45
        \boxed{\text{not } 9:45} => 9:45
    """,
    "anything": r"""
        \boxed{1,2,3,4,5} => \{3\}
        \boxed{A,B,C,D} => C
        \boxed{\text{A or B or C or D}} => C
        \boxed{\text{Yes/No}} => No
        \boxed{\text{yes (no)}} => yes
        \boxed{\{0,1\}} => 1
        \boxed{0 \text{ or } 1} => 1
        \boxed{x \in \{0,1\}} => 1
        \boxed{0 \le n \le 1} => 1
        \boxed{\min(0,1)} => 1
        \boxed{n} => 7
        \boxed{\text{any}} => 7
        \boxed{(-\infty,\infty)} => (0,\infty)
    """,
}
CASES = [
    (kind, *(line + " ").lstrip().split(" => "))
    for kind, lines in ATTACKS.items()
    for line in lines.strip("\n").splitlines()
    if line.strip()
]


def test_there_are_enough_attacks():
    assert len({case[1:] for case in CASES}) == len(CASES) >= 380


@pytest.mark.parametrize("kind", ATTACKS)
def test_no_attack_is_credited(kind):
    assert [case for case in CASES if case[0] == kind and verify(case[1], case[2].strip())] == []


# What looks like one of these attacks and is right.
HONEST = r"""
    It is not 15, so \boxed{14}. => 14
    \boxed{14}, not 15. => 14
    \boxed{15} is wrong, so \boxed{14}. => 14
    There is no doubt that it is \boxed{14}. => 14
    You must score at least \boxed{14} points. => 14
    \boxed{14} or equivalently $28/2$. => 14
    \boxed{14}. So the answer is 14. => 14
    \boxed{\frac{1}{2}}. The answer is 0.5. => \frac{1}{2}
    \boxed{14 \text{ ways}} => 14
    \boxed{14^{\mathrm{th}} \text{ floor}} => 14
    \boxed{100m+n=14} => 14
    \boxed{f(3)=14} => 14
    \boxed{|AB|=14} => 14
    \boxed{\text{The sum of the roots is } 14} => 14
    \boxed{\boxed{14}} => 14
    \boxed{1}, \boxed{2} => \boxed{1}, \boxed{2}
    \boxed{1,2} => \boxed{1} and \boxed{2}
    x=\boxed{1}, y=\boxed{-2} => 1,-2
    \boxed{\frac{1}{2}} (C) => C
    \boxed{\frac{1}{2}}. The answer is C. => C
    \boxed{\text{(B) True}} => B
    \boxed{\text{Yes, since it is not prime}} => Yes
    ~~13~~ The answer is 14. => 14
    \boxed{\cancel{13} 14} => 14
    答案】14 => 14
    \boxed{1 和 3} => 1,3
    \boxed{90度} => 90^\circ
    \boxed{14}<eoa> => 14
    \boxed{3+2j} => 3+2i
    \boxed{abs(x)} => |x|
    \boxed{0.(3)} => \frac13
    \boxed{\forall x>0, f(x)=0} => f(x)=0
    \boxed{(())} => (())
    \boxed{\frac{\pi}{4}} => 0.78539815
    \boxed{0.30000000000000004} => 0.3
    \boxed{2.9999999999999996} => 3
"""


def test_honest_neighbours_are_credited():
    lines = [line.strip().split(" => ") for line in HONEST.strip().splitlines()]
    assert [line for line in lines if not verify(*line)] == []


@pytest.mark.parametrize("character", "\u200b\u200c\u200d\u200e\u2060\ufeff\u00ad")
def test_an_invisible_character_changes_nothing(character):
    assert verify(f"\\boxed{{{character}42{character}}}", "42")
    assert verify(f"The answer is {character}(C)", "C")
    assert extract_answer(f"Answer:{character} 42") == "42"
    assert not verify(f"\\boxed{{-{character}42}}", "42")


def test_what_follows_on_another_line():
    assert not verify("\\boxed{23}\n\n**Answer:** 24", "23")
    assert not verify("\\boxed{23}\n#### 24", "23")
    assert verify("\\boxed{23}\n#### 23", "23")
    assert not verify("% \\boxed{14}\nI do not know.", "14")


def test_a_float_is_narrowly_a_decimal():
    for other in ("0.3000000000000004", "0.30000000000000001", "0.300000000000000044", "0.3+10^{-17}", "0.3000001"):
        assert not equivalent(other, "0.3")
    assert not equivalent("0.3333333333333333", "1/3")
    assert not equivalent("1.4142135623730951", "\\sqrt{2}")


@pytest.mark.skipif(not LABELLED.exists(), reason="the labelled attacks are not beside the repository")
def test_labelled_attacks():
    rows = [json.loads(line) for line in LABELLED.read_text(encoding="utf-8").splitlines()]
    wrong = [row for row in rows if verify(row["response"], row["gold"]) != row["expected"]]
    assert len(wrong) <= 0.03 * len(rows)
    assert sum(not row["expected"] for row in wrong) <= 4
