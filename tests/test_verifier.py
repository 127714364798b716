"""The answer checker against hand-labelled answers, the data sets, random rewritings and hostile input."""

# ruff: noqa: E501, RUF001

import json
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from verifier import Judge, Unread, Work, equivalent, extract_answer, read, verify  # noqa: E402

DATA = ROOT.parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the data sets are not beside the repository")

# One line a gold answer: gold | equal | equal ... || unequal | unequal ...
TABLE = {
    "integers": r"""
        17 | 17 | 017 | 17. | +17 | 17.0 | \text{17} | $17$ | \(17\) | \mathbf{17} | {17} | x=17 | 17 = x | m+n=17 | a + b + c = 17 | S_{10} = 17 | f(3)=17 || 71 | -17 | 17.1 | 1 7 | 170 | 17!
        -15 | −15 | - 15 | -(15) | (-15) | –15 | \left(-15\right) || 15 | 1-5 | --15 | -51
        12345 | 12,345 | 12{,}345 | 12,\!345 | 12\,345 | 12 345 | 012345 || 12,354 | 123,45 | 1,2345 | 1,2,3,4,5
        23,\! 456,\! 789,\! 300 | 23456789300 | 23{,}456{,}789{,}300 || 2345678930
        100000000000000000000000000000000000001 | 10^{38}+1 || 100000000000000000000000000000000000000 | 10^{38}
        0 | -0 | 0.0 | 0/5 | x=0 || 1 | x^2-5x-14=0 | \emptyset | 5/0
        6 | 3! | 2 \cdot 3 | 2 \times 3 | 12/2 | \sqrt{36} | \binom{4}{2} | |{-6}| | 2(3) | (2)(3) | \lfloor 6.9 \rfloor | \lceil 5.1 \rceil || 6x | \pm 6 | 6i | 6, 6.5 | \sqrt{-36}
        1024 | 2^{10} | 2^10 | 4^5 | 2**10 | 32^2 | 2¹⁰ || 2^{9} | 2^{12} | 2 10 | 210
        700 | 7 \cdot 10^2 | 7\times10^{2} | 7e2 | 7E2 | 700.00 || 7 \cdot 10^{-2} | 7e3
        80 | 2^4 \cdot 5 = 80 | x = 2^4 \cdot 5 = 80 | n = 80 || 2^4 \cdot 5 = 81 | 80 = 81
    """,
    "fractions": r"""
        \frac{3}{4} | 3/4 | \frac34 | \dfrac{3}{4} | \tfrac34 | \frac{6}{8} | 0.75 | .75 | \frac 34 | 3 / 4 | \frac{3}4 | {3}/{4} | 3 \div 4 | \cfrac{3}{4} | 3⁄4 | \left(\frac{3}{4}\right) || \frac43 | 4/3 | 34 | 0.7 | 0.7500001 | -\frac34 | 3,4 | 3:5
        -\frac{5}{7} | \frac{-5}{7} | \frac{5}{-7} | -5/7 | -(5/7) | −\frac57 || \frac{5}{7} | \frac{-5}{-7} | -\frac75
        \frac{1}{3} | 0.\overline{3} | 0.\bar{3} | 3^{-1} | \frac{2}{6} || 0.333 | 0.33333333333333333333 | 0.\overline{34} | \frac13 x | 33.3\%
        2\frac{1}{3} | \frac{7}{3} | 7/3 | 2 \frac13 | 2 1/3 | 2+\frac13 | 2\dfrac{1}{3} || \frac23 | 2.33 | 2 \cdot \frac13 | 21/3
        -1\frac{1}{2} | -\frac32 | -1.5 || -\frac12 | \frac12
        \frac{290}9\text{ degrees} | \frac{290}{9} | \frac{290}{9}^\circ | 290/9 || 32.22
        \dfrac{6173}{50,\!000} | 0.12346 | \frac{6173}{50000}
        \frac{12}{35} | \frac{3}{5} \cdot \frac{4}{7} | \frac{3 \cdot 4}{5 \cdot 7} | \frac{\frac{3}{5}}{\frac{7}{4}} | {12 \over 35}
        \frac{1}{2^{99}} | 2^{-99} | \left(\frac12\right)^{99} | 1/2^{99} | \frac{2}{2^{100}} || \frac{1}{2^{98}} | 1/2^{100} | 0 | \frac{1}{2^{99}-1}
    """,
    "decimals": r"""
        7.25 | 7.250 | 29/4 | 7\frac14 | 07.25 | 7.25. || 7.2 | 7.26 | 725 | 7,25
        .0000583 | 5.83 \times 10^{-5} | 0.0000583 | 5.83\cdot 10^{-5} | 5.83e-5 | 5.83E-05 || 5.83 \times 10^{-4} | 0.000058
        7.43 \times 10^{6} | 7430000 | 7,430,000 | 7.43 \text{ million} | 743 \cdot 10^4 || 7.43 \times 10^5 | 7.43
        0.1\overline{6} | \frac16 || 0.16 | 0.\overline{16} | 0.1666667
        0.\overline{142857} | \frac17 | 1/7 || 0.142857
        1{,}234.5 | 1234.5 | 1,234.50 || 1.2345
        66.67\% | 66.67 | 0.6667 || 66.7 | 67 | \frac23
    """,
    "radicals": r"""
        2\sqrt{17} | \sqrt{68} | 2 \sqrt {17} | 2\sqrt17 | \sqrt{4 \cdot 17} | 2 \cdot 17^{1/2} | 2\cdot 17^{0.5} | 2sqrt(17) | 2*sqrt(17) | \frac{34}{\sqrt{17}} | 2√17 | 2\sqrt{17}. || \sqrt{34} | 8.2462 | 8.24621125123532109964 | 2\sqrt[3]{17} | 17\sqrt2 | -2\sqrt{17} | 2+\sqrt{17}
        1+\sqrt{2} | \sqrt{3+2\sqrt2} | \sqrt2+1 | \frac{1}{\sqrt2-1} | (1 + \sqrt{2}) || \sqrt{3-2\sqrt2} | 1-\sqrt2 | \sqrt{3} | \sqrt{1+\sqrt2}
        \sqrt[3]{9} | 9^{1/3} | 3^{2/3} | \sqrt[3]{3^2} | 9^{\frac13} | \sqrt[6]{81} | 3^\frac23 || \sqrt{9} | 3\sqrt9 | \sqrt[9]{3} | 2.080
        \sqrt[3]{-8} | -2 | (-8)^{1/3} || 2
        \sqrt[3]{2+\sqrt5} | \frac{1+\sqrt5}{2} || 1.618
        \sqrt{2}+\sqrt{3} | \sqrt{5+2\sqrt6} | \sqrt3+\sqrt2 || \sqrt5 | \sqrt{2}-\sqrt{3} | 3.1462643699
        \frac{5\sqrt{29}}{29} | \frac{5}{\sqrt{29}} | 5/\sqrt{29} | \sqrt{\frac{25}{29}} | \sqrt\frac{25}{29} || \frac{5}{29} | 5\sqrt{29}
        \frac{\sqrt{\sqrt{7}-2}\cdot\sqrt[4]{343}}{7} | \frac{\sqrt{\sqrt7-2}}{\sqrt[4]{7}} || \frac{\sqrt{\sqrt{7}+2}\cdot\sqrt[4]{343}}{7}
        \sqrt{10^{120}+1} | \sqrt{1+10^{120}} || 10^{60}
        \sqrt{12} - 2\sqrt{3} | 0 || 1
        25\pi \cdot 3^{2/3} | 25\sqrt[3]{9}\pi || 25\pi \cdot 3^{1/3}
    """,
    "pi and e": r"""
        2\pi | \pi \cdot 2 | 2π | 2*pi | 2 \pi | \frac{4\pi}{2} | \pi + \pi || 6.28 | 2 | \pi^2 | 6.283185307179586 | 2\pi r
        \frac{\pi}{2} | \pi/2 | \frac{1}{2}\pi | 0.5\pi | \frac\pi2 | \dfrac{\pi}{2} || \frac{2}{\pi} | 1.5708 | \pi | 90
        8\pi-24 | 8(\pi-3) | -24+8\pi | \frac{16\pi - 48}{2} || 8\pi+24 | 8\pi | 8(\pi-24)
        1-\frac{3}{\pi} | \frac{\pi-3}{\pi} || 1+\frac3\pi | 1 - \frac{\pi}{3}
        e | e^1 | \exp(1) | \mathrm{e} || 2.718 | 2.718281828459045 | \pi | E
        14e^{-5} | \frac{14}{e^5} | 14/e^5 | 14\exp(-5) || 14e^5 | 0.0943
        \frac{1}{2}\left(e^2+\frac{1}{e^2}\right) | \cosh 2 | \frac{e^4+1}{2e^2} || \sinh 2
        \cos\frac{\pi}{3} + i\sin\frac{\pi}{3} | \frac{1}{2} + \frac{\sqrt{3}}{2} i | \frac{1+i\sqrt3}{2} || \frac12 | e^{-i\pi/3} | \frac{1-i\sqrt3}{2}
    """,
    "functions": r"""
        \ln 2 | \ln(2) | \frac{1}{2}\ln 4 | -\ln\frac12 | \ln{2} | \log_e 2 | \log 2 || 0.693 | \log_2 2 | \ln 3 | \ln 2 + 1
        \frac{7}{4} - \ln 81 | \frac74 - 4\ln 3 | 1.75-2\ln 9 || \frac74 - \ln 9 | -2.6444
        \log_2 3 | \frac{\ln 3}{\ln 2} | \frac{\log 3}{\log 2} | \log_{2}{3} | \log_4 9 || \log_3 2 | 1.585
        \log 100 | 2 || 4.605
        \frac{1}{2} | \sin 30^\circ | \cos\frac{\pi}{3} | \sin(\pi/6) | \cos 60° | \sin^2 45^\circ || \sin 30 | \cos 30^\circ
        \tan 15^\circ | 2-\sqrt3 | \tan\frac{\pi}{12} || 2+\sqrt3 | 0.268
        \cos 36^\circ | \frac{1+\sqrt5}{4} | \sin 54^\circ || \frac{\sqrt5-1}{4}
        \arctan 2 | \tan^{-1} 2 | \arctan(2) | \frac{\pi}{2} - \arctan\frac12 || 1.107 | \arctan\frac12
        \arcsin\frac12 | \frac{\pi}{6} | \sin^{-1}(1/2) || \frac{\pi}{3}
        |3-\pi| | \pi - 3 || 3 - \pi
    """,
    "expressions": r"""
        x^2+9x+14 | (x+2)(x+7) | x^2 + 14 + 9x | x(x+9)+14 | (x+7)(2+x) | x²+9x+14 | x**2+9*x+14 | y = x^2+9x+14 | f(x)=x^2+9x+14 || (x+3)(x+6) | x^2+9x-14 | n^2+9n+14 | x^2+9x | X^2+9X+14 | x^2+9x+14=0
        3k | 3 k | 3\cdot k | k+k+k | k \cdot 3 || 3 | k | 3n | 3k+1 | 3K | k^3
        \frac{k-1}{3k} | \frac13 - \frac{1}{3k} | \frac{1}{3}\left(1-\frac1k\right) | (k-1)/(3k) || \frac{k+1}{3k} | (k-1)/3k | \frac{k-1}{3}
        \cot t | \frac{\cos t}{\sin t} | \frac{1}{\tan t} | \cot(t) || \tan t | \cot y | \cos t
        \sin 2x | 2\sin x\cos x | 2\sin(x)\cos(x) || 2\sin x | \sin x^2 | \sin^2 x
        3^{n+1}-3(n+1) | 3 \cdot 3^n - 3n - 3 | 3(3^n-n-1) || 3^{n+1} - 3n + 1 | 3^n - 3(n+1)
        (-1)^n | (-1)^{n+2} | \cos(\pi n) || (-1)^{n+1} | 1 | -1
        |x| | \sqrt{x^2} | |-x| || x | -x
        (2k)! \cdot 3^{k^2} | 3^{k^2}(2k)! | (2k)(2k-1)! 3^{k^2} || (2k)! 3^{2k} | k! 3^{k^2}
        \binom{n}{2} | \frac{n(n-1)}{2} | \binom{n}{n-2} | {n \choose 2} || \frac{n(n+1)}{2} | \binom{n}{3} | \binom{2}{n}
        (3n+2)\left[\binom{n}{k-2}+\binom{n+1}{k-2}\right] | (3n+2)\binom{n}{k-2} + (2+3n)\binom{n+1}{k-2} || (3n+2)\left[\binom{n}{k}+\binom{n+1}{k-2}\right]
        b_{n}=n3^{n-1}-3^{n}+2 | n 3^{n-1} - 3^n + 2 | (n-3)3^{n-1}+2 || n3^{n-1}-3^n
        g(k)=\lceil\frac{3k+2}{5}\rceil | \lceil (3k+2)/5 \rceil || \lfloor\frac{3k+2}{5}\rfloor
        \ln(xy) | \ln x + \ln y || \ln x \ln y | \ln(x+y)
        \frac{x^2-1}{x-1} | x+1 || x-1
        e^{2x} | (e^x)^2 | \exp(2x) | e^x e^x || e^{x^2} | 2e^x
        \frac{b^2}{1-q^2} | \frac{b^2}{(1-q)(1+q)} | \frac{-b^2}{q^2-1} || \frac{b^2}{1+q^2} | \frac{b}{1-q^2}
        27 k^{5 / 17} | 27\sqrt[17]{k^5} | 27k^{\frac{5}{17}} || 27k^{5}/17
        u - v | -v+u | -(v-u) || v - u | u+v
        4x - 9y + 13z | 13z+4x-9y || 4x+9y+13z
        \alpha + \beta | \beta+\alpha | α+β || \alpha - \beta
        x_1 + x_2 | x_2 + x_1 || x_1 + x_3 | x_1
    """,
    "complex": r"""
        7 - 4i | -4i+7 | 7-4 i | 7 + (-4)i | z = 7-4i || 7+4i | 4-7i | 7 | -7-4i | (7,-4)
        -i | 0-i | -1i | i^3 | \frac1i || i | 1 | -1
        2+3i | \frac{-5+12i}{2+3i} | \frac{13}{2-3i} | i(3-2i) || 2-3i | 3+2i
        2i | i\cdot 2 | 0+2i || -2 | 2
    """,
    "units": r"""
        32\text{ cm}^2 | 32 | 32\text{ cm}^{2} | 32\,\mathrm{cm}^2 | 32 cm^2 | 32\text{ square centimeters} | 32\text{ sq cm} | 32 \text{ square units} || 32\text{ cm} | 32\text{ m}^2 | 32\text{ cm}^3 | 33\text{ cm}^2 | 32\text{ inches}^2
        73^\circ | 73 | 73^{\circ} | 73° | 73\text{ degrees} | 73 degrees | \angle ABC = 73^\circ | 73\degree || 73\text{ radians} | 73\% | 37^\circ | 73'
        \$7.30 | 7.3 | \$7.3 | 7.30 \text{ dollars} | $7.30 | 7.30 || \$7.03 | 730 | 7.30\text{ euros} | 7.30 \text{ cents}
        \$41,\!567 | 41567 | \$41,567 | \$41567 | 41,567 || \$41,576
        5\text{ minutes} | 5 | 5 minutes | 5 \text{ min} || 5\text{ hours} | 5\text{ seconds} | 50
        52 | 52\text{ inches} | 52 \text{ apples} | 52\text{ units} | 52\text{ ways} | 52\mbox{ cm} | 52\text{ people} || 52\text{ million} | 52 \text{ or more} | \text{not } 52 | \text{at most } 52 | 52\text{ dozen}
        \frac{5}{4} \mathrm{~m} / \mathrm{s} | \frac54 | \frac{5}{4}\text{ m/s} | \frac54 \text{ meters per second} || \frac54 \text{ m} | \frac54\text{ km/s} | \frac{4}{5}
        350 + 350\sqrt{2}\text{ feet} | 350(1+\sqrt2) | 350+350\sqrt2\text{ ft} || 350\sqrt2 | 350 + 350\sqrt{2}\text{ inches}
        726 \mbox{ inches}^2 | 726 \text{ in}^2 | 726 | 726\text{ square inches} || 726\text{ inches} | 726\text{ feet}^2
        .057 m^2 | 0.057 | 0.057\text{ m}^2 || 0.57
        12 \text{ m} | 12 \text{ meters} | 12 m | 12 || 12 \text{ km} | 12\text{ cm} | 12\text{ m}^2
        65\text{ mph} | 65 \text{ miles per hour} | 65 || 65\text{ kph}
        25' | 25
        $120 | 120 | \$120 || 12
    """,
    "percent": r"""
        85\% | 85 | 85% | 0.85 | \frac{17}{20} | 85\text{ percent} | 85 percent || 8.5\% | 8.5 | 850 | 0.085 | 85\text{ cm} | 8500
        \frac{1}{2} | 50\% || 5\% | 2\%
        47.31\% | 47.31 | 0.4731 || 47.3 | 47\%
    """,
    "tuples": r"""
        (3,-8) | (3, -8) | \left(3,\,-8\right) | ( 3 , - 8 ) | (3;-8) | \langle 3,-8\rangle | (x,y)=(3,-8) | (6/2, -8.0) | \big(3,-8\big) || (-8,3) | (3,8) | (3,-8,0) | 3 | (3,-8] | \{3,-8\} | 3,8 | (3)
        \left(5,\frac{\pi}{4}\right) | (5,\pi/4) | (5, \frac{1}{4}\pi) || (\frac{\pi}{4},5) | (5,45) | (5,0.785)
        (2,7),(7,2) | (7,2),(2,7) | (2,7) \text{ and } (7,2) | \{(2,7),(7,2)\} | (2,7);(7,2) || (2,7) | (7,2) | (2,7),(7,2),(3,3) | (2,7),(2,7) | 2,7,7,2 | (2,7),(7,3)
        (1,200) | (1, 200) || (200,1) | 1200
        (7,23,-2) | (7,23,-2) || (7,23,2) | (23,7,-2) | (7,23)
        (a, b) = (1, 1) \text{ and } (a, b) = (-3, 3) | (1,1),(-3,3) | (-3,3), (1,1) || (1,1) | (1,1),(3,-3)
        (1, \sqrt{2}) | (1,\frac{2}{\sqrt2}) || (1,1.414)
        (k,1-k) | (k, -k+1) || (1-k,k) | (n,1-n)
        ((1,2),3) | ((1,2),3) || (1,(2,3))
    """,
    "lists": r"""
        3,8 | 8,3 | 3, 8 | 8 \text{ and } 3 | 3 \text{ or } 8 | \{3,8\} | x=3,8 | x=3 \text{ or } x=8 | x=3, x=8 | 3;8 | x_1=3, x_2=8 | \{8,3\} || 3 | 8 | 3,8,7 | 3,-8 | 38 | (3,8) | [3,8] | 3.8 | x=3, x=6
        \{-6,0,6\} | \{0,6,-6\} | 0, \pm 6 | -6,0,6 | \{0,\pm6\} | \left\{-6,0,6\right\} | \lbrace -6, 0, 6 \rbrace | \{6,0,-6,6\} || \{-6,6\} | \{-6,0,6,8\} | (-6,0,6) | [-6,6] | \{-6,0,7\}
        5\pm\sqrt{7} | 5+\sqrt7,5-\sqrt7 | \{5-\sqrt7, 5+\sqrt7\} | x = 5 \pm \sqrt{7} | 5-\sqrt{7} \text{ or } 5+\sqrt{7} | 5\mp\sqrt7 | \frac{10 \pm 2\sqrt7}{2} || 5+\sqrt7 | 5-\sqrt7 | \sqrt7\pm5 | 5\pm\sqrt6 | \pm(5+\sqrt7)
        \{2\pm\sqrt{7},-3\} | -3, 2+\sqrt7, 2-\sqrt7 | \{-3, 2\pm\sqrt7\} || \{2\pm\sqrt7\} | \{2\pm\sqrt7,3\} | \{2+\sqrt7,-3\}
        \pm 3 | 3,-3 | -3, 3 | x=\pm3 | 3 \text{ or } -3 || 3 | -3 | |3|
        4, 6, 9 | 9,6,4 | 4, 6, and 9 | 4,6,9 | \text{4, 6, and 9} || 4,6 | 4,6,9,11 | 469 | 4,6,8
        6 | \{6\} || 6 \text{ or } 7 | 6, 7 | \{6,7\} | 6 \text{ and } 7 | 5 \text{ or } 6 | 6 \pm 0.5 | 6,6
        1,1,2 | 2,1,1 || 1,2,2 | 1,2
        100, 200, 300 | 100,200,300 | 300, 200, 100 || 100,200 | 100, 200, 301
        \emptyset | \varnothing | \{\} | ∅ || 0 | \{0\} | \text{none} | 1
        \frac{6}{\sqrt7} \text{ OR } \frac{6\sqrt7}{7} | \frac{6}{\sqrt7} | \frac{6\sqrt{7}}{7} || \frac{6}{7}
        Q and T | T and Q | Q, T || Q | Q and R
        20^\circ, 40^\circ, 63^\circ | 20, 40, 63 | 63^\circ, 20^\circ, 40^\circ || 20, 40 | 20^\circ,40^\circ,64^\circ
        \{(2,2),(1,3)\} | (1,3),(2,2) || \{(2,2),(3,1)\} | \{2,2,1,3\}
        3 \text{ or } n \geq 8 | n = 3 \text{ or } n \ge 8 || n \geq 8 | 3 | 3 \text{ or } n > 8
        x=1, y=2 | y=2, x=1 || x=2, y=1 | x=1
    """,
    "intervals": r"""
        [-3,7) | -3\le x<7 | [-3, 7) | 7 > x \geq -3 | x\in[-3,7) | \left[-3,7\right) | \{x : -3 \le x < 7\} | [-3,0)\cup[0,7) || (-3,7) | [-3,7] | (-3,7] | -3<x<7 | [-3,8) | [7,-3) | \{-3,7\} | -3,7
        (-\infty,2)\cup(6,\infty) | (6,\infty)\cup(-\infty,2) | x<2 \text{ or } x>6 | (-\infty,2) \cup (6,+\infty) | (-∞,2)∪(6,∞) | (-\infty,2) U (6,\infty) | \mathbb{R}\setminus[2,6] || (-\infty,2]\cup(6,\infty) | (-\infty,2) | (2,6) | (-\infty,6)\cup(2,\infty) | x<2
        x>3 | (3,\infty) | 3<x | x \in (3,\infty) | (3,+\infty) | x \gt 3 | 2x>6 | -x<-3 || x\ge 3 | [3,\infty) | x<3 | y>3 | 3 | (3,4)
        (-\infty, -4] | x\le -4 | x \leq -4 | [-\infty,-4] || x<-4 | (-\infty,-4) | [-4,\infty)
        (-\sqrt{7},\sqrt{7}) | -\sqrt7<x<\sqrt7 || (-2.646,2.646) | [-\sqrt7,\sqrt7]
        k \neq 4 | k \ne 4 | k≠4 | (-\infty,4)\cup(4,\infty) | k \in \mathbb{R} \setminus \{4\} | k<4 \text{ or } k>4 || k = 4 | k \neq 2 | 4
        \left[\frac{\pi^2}{6},\frac{7\pi^2}{3}\right] | [\pi^2/6, 7\pi^2/3] || [\pi^2/6, 7\pi^2/3)
        (1,8)\cup(8,27) | (8,27)\cup(1,8) | 1<x<8 \text{ or } 8<x<27 || (1,27) | (1,8] \cup (8,27)
        [1,3] | [1,2]\cup[2,3] | [1,2]\cup(2,3] || [1,2)\cup(2,3] | [3,1] | 1,3
        \mu \geq e | [e,\infty) | e \le \mu || \mu > e | \mu \geq 2.718
        2 < x < 5 | x>2 \text{ and } x<5 | (2,5) || x>2 \text{ or } x<5 | 2<x | 2 < y \le 5
        \mathbb{R} | (-\infty,\infty) | ℝ || (0,\infty)
        n > 2a | 2a < n || n \ge 2a | n > 2b | n<2a
    """,
    "equations": r"""
        y=-x+7 | x+y=7 | y = 7-x | x+y-7=0 | -x - y = -7 | 2y = 14-2x | y+x=7 | 7-x | -x+7 || y=x+7 | x-y=7 | x+y=8 | y=-x | y<-x+7 | y = -x-7 | 7
        4x - 9y + 13z + 6 = 0 | 9y-4x-13z=6 | 8x-18y+26z+12=0 || 4x-9y+13z=6 | 4x - 9y + 13z + 6 | 0
        x=9 | 9 | 9=x | x = 9.0 | x-9=0 | x = \frac{18}{2} || x=-9 | y=9 | x=8 | x \ne 9
        x^2-4x-21=0 | (x-7)(x+3)=0 | 2x^2 = 8x+42 || x^2-4x+21=0 | 0 | x^2-4x-21
        y = 3x + 8 | 3x+8 | y-3x=8 | y = 8+3x || y=3x-8 | y=8x+3 | x = 3y+8 | 3x-8
        (x-1)^2+(y+2)^2=25 | x^2-2x+y^2+4y=20 || (x+1)^2+(y+2)^2=25 | (x-1)^2+(y+2)^2=5
        f(x) = x + 6 | x+6 | f(x)=6+x || f(x)=x | x-6 | f(x)=x-6
        f(x) = 3 \text{ and } f(x) = 2x | f(x)=2x, f(x)=3 | 3, 2x || f(x)=3 | f(x)=2x
        \frac{x^2}{9}+\frac{y^2}{4}=1 | 4x^2+9y^2=36 || \frac{x^2}{4}+\frac{y^2}{9}=1 | 1
        3 \cdot\binom{20}{10} = 554268 | 554268 | 3\binom{20}{10} || 184756
        \sqrt{55} | \sqrt{55} \approx 7.42 | x = \sqrt{55} \approx 7.416 || x \approx 7.416
    """,
    "text": r"""
        \text{Marisol} | Marisol | \text{marisol} | \textbf{Marisol} | \mathrm{Marisol} | MARISOL | "Marisol" || \text{Tobias} | Mariso | Mari | 5
        \text{(C)} | C | (C) | \textbf{(C)} | \text{C} | \mathbf{C} | c | \mathrm{(C)} | \textbf{C}. | \textbf{(C) } 12 || B | (B) | \text{(D)} | 12 | CD | \textbf{(B) } 12
        12 | \textbf{(C) } 12 | \text{(C) } 12 || \textbf{(C) } 13 | \text{(C)}
        \text{no solution} | No solution | \text{No solution.} || \text{solution} | 0 | \text{no solutions exist}
        \text{acute} | acute | \text{Acute} || obtuse | \text{obtuse} | \text{neither}
        \text{Yes} | yes | YES | Yes. || No | yesno
        \text{octagon} | an octagon | \text{an octagon} || \text{circle}
        x | x || y | 2x
        \text{undefined} | undefined || \text{defined}
    """,
    "matrices": r"""
        \begin{pmatrix} 4 \\ -3 \end{pmatrix} | \begin{bmatrix} 4 \\ -3 \end{bmatrix} | \begin{pmatrix}4\\-3\end{pmatrix} | \begin{array}{c} 4 \\ -3 \end{array} | \left[\begin{array}{c}4\\-3\end{array}\right] | \begin{pmatrix} 4.0 \\ -\frac{6}{2} \\ \end{pmatrix} || \begin{pmatrix} -3 \\ 4 \end{pmatrix} | \begin{pmatrix} 4 & -3 \end{pmatrix} | \begin{pmatrix} 4 \\ 3 \end{pmatrix} | 4 | \{4,-3\} | \begin{pmatrix} 4 \\ -3 \\ 0 \end{pmatrix}
        \begin{pmatrix} 3 & 0 \\ 0 & 8 \end{pmatrix} | \begin{bmatrix}3&0\\0&8\end{bmatrix} || \begin{pmatrix} 8 & 0 \\ 0 & 3 \end{pmatrix} | \begin{pmatrix} 3 & 0 \\ 8 & 0 \end{pmatrix} | 24 | \begin{vmatrix} 3 & 0 \\ 0 & 8 \end{vmatrix}
        \begin{pmatrix} -2/5 \\ 1/5 \\ 4/5 \end{pmatrix} | \begin{pmatrix} -\frac25 \\ \frac15 \\ \frac45 \end{pmatrix} | \frac{1}{5}\begin{pmatrix} -2 \\ 1 \\ 4 \end{pmatrix} || \begin{pmatrix} -2 \\ 1 \\ 4 \end{pmatrix}
    """,
    "bases": r"""
        314_5 | 314_{5} | 314_{(5)} | 314_{\text{five}} | 0314_5 | 314 || 314_6 | 315_5 | 3145 | 84 | 413_5
        1100101_{(2)} | 1100101_2 || 1100101_3 | 1100111_2
    """,
    "powers": r"""
        2^{99} | 2 \cdot 2^{98} | 4^{49} \cdot 2 | 633825300114114700748351602688 | 2^{100}/2 || 2^{98} | 2^{99}+1 | 2^{99}-1 | 6.338 \times 10^{29} | 99^2
        90! | 90 \cdot 89! | \frac{91!}{91} || 89! | 91! | 90 | 90!!
        2^{21} \cdot 22! | 2^{22} \cdot 11 \cdot 21! | 22! \cdot 2^{21} || 2^{22}\cdot 22! | 2^{21}\cdot 21! | 22!
        \binom{4001}{2001} | \binom{4001}{2000} | {4001 \choose 2001} || \binom{4001}{1999} | \binom{4000}{2001}
        \binom{10}{3} | 120 | \frac{10!}{3!7!} | \dbinom{10}{7} || 720 | \binom{10}{4} | \frac{10}{3}
        2^{1000000} | 4^{500000} | 2 \cdot 2^{999999} || 2^{1000001} | 2^{999999} | 2^{1000000}+1 | 2^{1000000}-1 | 3^{1000000}
        2345! | 2345 \cdot 2344! || 2344! | 2346!
        3^{2^{20}} | 9^{2^{19}} || 3^{2^{19}}
        10^{10^{10}} | 10^{10^{10}} || 10^{10^{11}} | 0
        \frac{5 \cdot 3^{1/3}}{9} | \frac{5}{9}\sqrt[3]{3} | 5 \cdot 3^{-5/3} || \frac{5}{9}\sqrt{3}
        (1867)^2 | 1867^2 | 3485689 || 1867
    """,
    "chains": r"""
        31 | 4 \star 5 = 2 \cdot 13 + 5 = 31 | \mathbb{E}[X] = 31 | \Pr(X=2) = 31 | 2^{y+1} = 2 \cdot 2^y = 31 | 66 \bmod 35 = 31 | \lim_{n\to\infty} a_n = 31 | \text{Total} = 15+16 = 31 | \text{If so, } x = 30+1 \Rightarrow x = 31 || 4 \star 5 = 31 = 32 | 30 = 31 | \mathbb{E}[X] = 32
        \frac{2}{7} | \mathbb{P}(A) = \frac{4}{14} = \frac27 | \frac27 \approx 0.29 | \frac{2}{7} \text{ (approximately } 0.29) || \frac27 \approx 0.3 \approx 0.29 | \frac27 \approx 0.31
        0.29 | \frac27 \approx 0.29 || \frac27 | \frac27 \approx 0.29 \approx 0.3
        \frac{a^2}{3+2\sqrt2} | W_{\max} = \frac{a^2}{3+2\sqrt2} = (3-2\sqrt2)a^2 || W = \frac{a^2}{3+2\sqrt2} = (3+2\sqrt2)a^2
    """,
    "conditions and words": r"""
        3^n+1 | 3^n+1, n\ge 1 | 3^n+1 \text{ for all integers } n \ge 1 | 3^n+1 \text{ where } n>0 | a_n = 3^n+1 \text{ for } n \geq 2. || 3^n-1, n \ge 1 | 3^n+1, 4 | 3^n+1 \text{ for } n=1, 5 \text{ for } n=2
        g(x)=kx | g(x) = kx \text{ for any constant } k | g(t)=kt || g(x)=k
        29 | \text{The answer is } 29 | The\ length\ of\ AB\ is\ 29 | 29\text{.} | ___29___ | "29" | \color{red}{29} | \large 29 | \underline{29} || \text{The answer is not } 29 | \text{at least } 29
        \text{Yes} | \text{Yes, } n \text{ is prime} | Yes, it is. || \text{No, } n \text{ is prime} | \text{Yes or no}
        \mathbb{R} | \text{all real numbers} | \text{every real number} | x \in \mathbb{R} || \text{all integers} | \text{all}
        D | \text{D) }12 | D) 12 | \text{Option D} | (D) 12 || (D) 12 (E) 13 | \text{(D) and (E)} | \text{Option E}
        (p,q)=(3,8) | p=3, q=8 | q=8, p=3 | (3,8) || p=8, q=3 | p=3 | (8,3)
        m=1,n=5;m=6,n=2 | (1,5),(6,2) | (6,2),(1,5) || (1,6),(5,2) | (1,5)
    """,
    "more units": r"""
        6 | 6 km/h | 6 miles per hour | 6 Hz | 6 years old | 6 cups of flour | 1.5 \cdot 4 m/s | 6 € | €6 | 6th | 6^{\mathrm{th}} \text{ place} | \$6 || 6 million
        2400.5 | 2,400.5 m² | 2,400.5 m^2 | \$2,400.5
        48\% | 48 pct | 48 percent | 48 per cent || 4.8 pct
        18200 | \$18,\,200 | 18{,}200 || 18,200,1
        \text{6:15 p.m.} | 6:15 p.m. | 6:15 \text{ PM} | 6:15 || 6:15 a.m. | 6:16 p.m.
    """,
    "more notation": r"""
        \frac34 | ¾ | 0.75 || ¼
        \frac{11}{4} | 2¾ || 2\frac14
        \frac16 | 0.1666... | 0.1\overline{6} | 0.16666\ldots || 0.1666
        \log_2 5 | log₂ 5 || log₅ 2
        \arctan\frac13 | \cot^{-1} 3 | \operatorname{arccot} 3 || \cot 3 | \frac{1}{\cot 3}
        \lfloor \frac{k}{3} \rfloor + 1 | \lceil \frac{k+1}{3} \rceil || \lceil \frac{k}{3} \rceil
        15 | \sum_{k=1}^{5} k | \gcd(30, 45) = 15 | \begin{vmatrix} 4 & 1 \\ 1 & 4 \end{vmatrix} = 15 | x = \max(3, 15) = 15 || \sum_{k=1}^{6} k | \prod_{k=1}^{3} k
        n \equiv 2 \pmod{5} | n \equiv 2 \pmod 5 | n \equiv 2 \bmod{5} || n \equiv 2 \pmod{6} | n \equiv 3 \pmod{5} | 2
        -\frac{\hbar k_{0}}{m} | -\frac{k_0 \hbar}{m} || \frac{\hbar k_0}{m}
        u^2_0 t | u_0^2 t || u_0 t
        2^{800}(\sqrt{1+2^{-700}}-1) | 2^{450}\sqrt{2^{700}+1}-2^{800} || 2^{450}\sqrt{2^{700}+2}-2^{800}
        -101_2 | -101 || 101 | -5
    """,
    "ratios": r"""
        3:7 | 3 : 7 | \frac62 : 7 || 7:3 | 3:8 | 10
        7:5:2 | 7 : 5 : \sqrt{4} || 2:5:7 | 7:5 | 7,5,2
        10:40 | 10:40 || 1:4 | 10:04 | 40:10
        \sqrt{7} : 2\sqrt{3} : 4 | \sqrt7:\sqrt{12}:4 || \sqrt7:2:4
    """,
}
CASES = []
for kind, lines in TABLE.items():
    for line in lines.strip().splitlines():
        # | also stands for an absolute value, which has no space on both sides here
        equal, _, unequal = line.strip().partition(" || ")
        gold, *answers = equal.split(" | ")
        CASES += [(kind, gold, answer, True) for answer in [gold, *answers]]
        CASES += [(kind, gold, answer, False) for answer in unequal.split(" | ") if answer]


@pytest.mark.parametrize("kind", TABLE)
def test_labelled_answers(kind):
    wrong = [case for case in CASES if case[0] == kind and equivalent(case[2], case[1]) != case[3]]
    wrong += [case for case in CASES if case[0] == kind and equivalent(case[1], case[2]) != case[3]]  # symmetric
    wrong += [case for case in CASES if case[0] == kind and verify(rf"Hence \boxed{{{case[2]}}}.", case[1]) != case[3]]
    assert not wrong


# Forms that are not decided, and equal only to their own text: a false refusal costs less than its code.
REFUSED = [
    (r"e^{i\pi/3}", r"\frac{1}{2} + \frac{\sqrt{3}}{2} i"),
    (r"\sqrt{-4}", "2i"),
    (r"(1+i\sqrt{3})^2", r"-2+2i\sqrt{3}"),
    (r"n \equiv 7 \pmod 5", r"n \equiv 2 \pmod 5"),
    ("6:14", "3:7"),
    ("3:7", r"\frac37"),
    (r"\gcd(30, 45)", "15"),
    (r"\begin{vmatrix} 4 & 1 \\ 1 & 4 \end{vmatrix}", "15"),
    (r"1 + e^{-\sqrt{90000}}", r"e^{-\sqrt{90000}} + 1"),
]


@pytest.mark.parametrize(("answer", "gold"), REFUSED)
def test_refused_forms(answer, gold):
    assert equivalent(answer, answer)
    assert not equivalent(answer, gold)


EXTRACTED = [
    (r"First \boxed{30}, but a case was missing: \boxed{31}.", "31"),
    (r"Thus $\boxed{\frac{1}{2}}$ and we are done.", r"\frac{1}{2}"),
    (r"\boxed{\text{Set } \{1, 2\}}", r"\text{Set } \{1, 2\}"),
    (r"\boxed 7", "7"),
    (r"$\boxed7$", "7"),
    (r"\fbox{12}", "12"),
    (r"\boxed{ 12 }", "12"),
    (r"\boxed{\boxed{3}}", "3"),
    (r"\boxed{5} and then \boxed{}", "5"),
    (r"\boxed{5}. Let me check again: \boxed{6", None),
    (r"\boxed{5}. Let me check: \boxed{ . }", "5"),
    (r"so $a = 3 - 20 = -\boxed{17}$", "-17"),
    (r"\boxed{5} is wrong. The correct answer is 6.", "6"),
    ("<|begin_of_box|>(2, 3)<|end_of_box|>", "(2, 3)"),
    (r"<think>\boxed{4}</think>It is \boxed{5}.", "5"),
    ("<think>The answer is 4.</think> I cannot tell.", None),
    ("The answer is that she reads 23 pages.", "23"),
    ("Final Answer: The largest $m$ is 41.", "41"),
    ("Final Answer: The area is $41$ units. I hope it is correct.", "41"),
    ("Answer:\n```\n41\n```", "41"),
    ('FINAL ANSWER: """41"""', "41"),
    ("Answer: `$41$`", "41"),
    ("The answer is 41.<|im_end|>", "41"),
    ("It is 41 metres long.</s></s>", "41"),
    ("The answer should be (C).", "(C)"),
    ("So the letter must be C.", "C"),
    ("The answer: C, for the others are too small", "C"),
    ("答案是 41。", "41"),
    ("The answers are 4 and 7.", "4 and 7"),
    ("The area is 9 $\\pi$", "9 \\pi"),
    ("The rent is $45-$12 = $33 less", "$45-$12 = $33"),
    ("He pays $<<3*4=12>>12 a week.\nA: 12", "12"),
    ("The answer is (4, 7).\nThe answer is (", "(4, 7)"),
    ("The point is (4, 7).", "(4, 7)"),
    ("She has 3 x 7 = 21 left.", "3 * 7 = 21"),
    ("We looked at 40 cases. I could not settle it.", None),
    ("It is not 40.", None),
    (r"\boxed{3} or \boxed{4}", "3 or 4"),
    (r"\boxed{3}, \boxed{4}", "4"),
    ("The answer is 12.", "12"),
    ("The final answer is: $x = 3$.", "x = 3"),
    ("The answer is $3$ or $4$.", "3 or 4"),
    ("So the answer is 3.5. That was easy.", "3.5"),
    ("The answer is 5 because 2+3=5.", "5"),
    ("The answer is (B).", "(B)"),
    ("Answer: 42", "42"),
    ("**Answer:** 42", "42"),
    ("**Final Answer**\n\n$\\sqrt{2}$", "\\sqrt{2}"),
    ("We add 4 and 5.\n#### 9", "9"),
    ("<answer>9</answer>", "9"),
    ("<think>it may be 8</think><answer> $9$ </answer>", "9"),
    ("Adding up, we get **17**.", "17"),
    ("Hence $x=2$, and so $y = 3$.", "y = 3"),
    (r"It follows that \[ x = \frac{2}{3}. \]", r"x = \frac{2}{3}."),
    ("There are 12 dogs and 5 cats, 17 in all", "17"),
    ("I think it is 8 or 9", "8 or 9"),
    ("3 + 4 = 7", "3 + 4 = 7"),
    ("-5", "-5"),
    ("Saturday", "Saturday"),
    ("My attempt stops here.", None),
    ("", None),
    (r"\boxed{}", None),
]


@pytest.mark.parametrize(("response", "answer"), EXTRACTED)
def test_extraction(response, answer):
    assert extract_answer(response) == answer


VERIFIED = [
    (r"\boxed{3}, \boxed{8}", "3,8", True),
    (r"$\boxed{8}$ and $\boxed{3}$", "3,8", True),
    (r"\boxed{3}\boxed{8}", r"\{3,8\}", True),
    (r"\boxed{3}, \boxed{8}", "8", True),  # no list is asked for: the last box counts
    (r"\boxed{3}, \boxed{8}", "3", False),
    (r"\boxed{3} or \boxed{8}", "8", False),
    (r"\boxed{3} or \boxed{8}", "3,8", True),
    (r"One root is \boxed{3}. The other one is then found to be \boxed{8}.", "8", True),
    (r"\boxed{3}, \boxed{8}", "(3,8)", False),
    ("The answer is 8 or 9.", "9", False),
    ("I think it is 8 or 9", "9", False),
    ("so x = 3/4", "3/4", True),
    ("so x = 3/4", "4", False),
    (r"which gives \frac{3}{4}", "4", False),
    (r"\boxed{5}", "", False),
    (r"\boxed{}", "", False),
    (r"\boxed{5}", " ", False),
    (r"\boxed{5}", r"\boxed{5}", True),
    (r"\boxed{5}", "$5$", True),
    (r"\boxed{5}", r"\[ \boxed{5} \]", True),
    (r"\boxed{$5$}", "5", True),
    (r"\boxed{6}", r"\boxed{5}", False),
    (r"\boxed{8 \text{ (not } 9)}", "9", False),
    (r"\boxed{?}", "?", False),
    (r"\boxed{__import__('os').system('true')}", "0", False),
    (r"\boxed{nan}", "nan", True),
    (r"\boxed{nan}", "0", False),
    (r"\boxed{\infty}", r"-\infty", False),
    (r"\boxed{\infty}", "10^{9}", False),
    (r"\boxed{\sqrt{3}}", "1.73205081", True),  # an exact answer for a decimal of seven digits or more
    (r"\boxed{\sqrt{3}}", "1.732", False),
    (r"\boxed{1.73205081}", r"\sqrt{3}", False),
    (r"\boxed{7}", "u+v=7", False),
    (r"\boxed{u+v=7}", "u+v=7", True),
]


@pytest.mark.parametrize(("response", "gold", "expected"), VERIFIED)
def test_verify(response, gold, expected):
    assert verify(response, gold) is expected


def rows(name):
    with open(DATA / name, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@needs_data
def test_labelled_examples():
    wrong = [row for row in rows("verifier_examples.jsonl") if verify(row["response"], row["gold"]) != row["expected"]]
    assert not wrong


# Labels that are not followed: see the list of what is policy in the docstring of verifier.py.
@needs_data
@pytest.mark.parametrize(("name", "share"), [("verifier_field.jsonl", 0.95), ("verifier_triples.jsonl", 0.99)])
def test_answers_in_the_field(name, share):
    cases = rows(name)
    wrong = [row for row in cases if verify(row["response"], row["gold"]) != row["expected"]]
    assert len(wrong) <= (1 - share) * len(cases), wrong


GOLDS = ["aime24", "aime25", "hmmt25", "math500", "gsm8k_train", "gsm8k_test", "deepscaler_sample"]


@needs_data
@pytest.mark.parametrize("name", GOLDS)
def test_golds(name):
    golds = {row["answer"] for row in rows(f"{name}.jsonl")}
    for gold in golds:
        assert equivalent(gold, gold)
        assert verify(f"Adding up, we find that the answer is $\\boxed{{{gold}}}$, as was to be shown.", gold)
    for constant in ("7", "\\frac{355}{113}", "\\sqrt{1234}", "x+y+z+12", "(91,92)"):
        credited = [gold for gold in golds if verify(f"\\boxed{{{constant}}}", gold)]
        assert all("".join(c for c in gold.lstrip("0") if c not in "$^{}\\cir") == constant for gold in credited), (
            credited
        )


@needs_data
@pytest.mark.parametrize("name", GOLDS)
def test_different_golds_that_are_called_equal(name):
    """Once spelling is taken away, the pairs that are left have been reviewed: change DIGESTS only after looking at them."""
    golds = sorted({row["answer"] for row in rows(f"{name}.jsonl")})
    golds = sorted(random.Random(0).sample(golds, min(400, len(golds))))
    values = {gold: read(gold) for gold in golds}
    numbers = {gold for gold in golds if type(values[gold]) is int}
    pairs = [(a, b) for a, b in combinations(golds, 2) if not (a in numbers and b in numbers) or values[a] == values[b]]
    wordy = {gold for gold in golds if gold.strip("()$ -").replace("\\text{", "").strip("}()")[:2].isalpha()}
    pairs = [
        (a, b) for a, b in pairs if (equivalent(a, b) if a in wordy or b in wordy else matches(values[a], values[b]))
    ]
    left = sorted({tuple(sorted(map(_plainly, pair))) for pair in pairs if len({*map(_plainly, pair)}) > 1})
    assert blake2b(repr(left).encode(), digest_size=8).hexdigest() == DIGESTS.get(name, DIGESTS[""]), left


def matches(a, b):
    try:
        return Judge(a, b, "a seed", Work()).match(a, b)
    except Unread:
        return False


def _plainly(answer):
    for old, new in (
        ("dfrac", "frac"),
        ("tfrac", "frac"),
        (" ", ""),
        ("{", ""),
        ("}", ""),
        ("$", ""),
        ("\\!", ""),
        (",", ""),
    ):
        answer = answer.replace(old, new)
    return (
        answer.removeprefix("x=")
        .removeprefix("r=")
        .removeprefix("k=")
        .removesuffix("^\\circ")
        .removesuffix("\\%")
        .removesuffix(".")
    )


DIGESTS = {"": "71857576257465c7", "math500": "73977d1659184862", "deepscaler_sample": "2bcc7eb671b8d263"}

HOSTILE = [
    "1" * 100_000,
    "1," * 50_000,
    "{" * 10_000,
    "}" * 10_000,
    "(" * 100_000,
    "x" * 100_000,
    "x+" * 50_000 + "x",
    "-" * 100_000 + "1",
    "2^" * 20_000 + "2",
    "3" + "!" * 1000,
    "9^{9^{9^9}}",
    "9^{9^{9^{9^9}}}",
    "2^{10^{10}}",
    "(1/3)^{10^{18}}",
    "\\sqrt{2}^{10^{18}}",
    "x^{10^{18}}",
    "10^{10^6}!",
    "(10^6)!",
    "3000!" * 300,
    "2^{50000}" * 300,
    "2^{50000}+" * 200 + "1",
    "\\sqrt{2^{50000}}",
    "\\sqrt{2}^{50000} + \\pi",
    "\\sin(10^{30})",
    "e^{e^{e^{e^{e}}}}",
    "\\binom{10^9}{10^8}",
    "\\binom{10^{1000}}{5}",
    "1e999999999",
    "1.5E-99999",
    "0." + "3" * 100_000,
    "0.\\overline{" + "3" * 5000 + "}",
    "nan",
    "inf",
    "-inf",
    "NaN + 1",
    "1/0",
    "0^0",
    "0^{-1}",
    "\\frac{1}{\\sqrt{2}-\\sqrt{2}}",
    "\\ln 0",
    "\\ln(-1)",
    "\\pm" * 30 + "1",
    ",".join(["\\pm 1\\pm 2\\pm 3\\pm 4"] * 60),
    ",".join(["\\sqrt{2}+\\sqrt{3}"] * 90),
    ",".join(f"\\sqrt{{{n}}}" for n in range(2, 90)),
    "\\{" + ",".join(f"x+{n}" for n in range(90)) + "\\}",
    "\\sqrt" * 5000 + "2",
    "\\frac" * 20_000,
    "\\frac1" * 2000,
    "\\text{" * 10_000,
    "\\boxed{" * 10_000,
    "\\boxed{}" * 10_000,
    "\\boxed{1}" * 10_000,
    "\\boxed{" * 5000 + "}" * 4000,
    "$" * 100_000,
    "$1$" * 30_000,
    "\\(" * 50_000,
    "**" * 50_000,
    "answer is " * 10_000,
    "\\begin{pmatrix}" * 3000,
    "\\begin{pmatrix}" + "1 & " * 400 + "1\\end{pmatrix}",
    "|" * 1001,
    "[1,2]" + "\\cup[1,2]" * 200,
    "x\\ne 1" + "\\text{ and }x\\ne 2" * 100,
    "1<" * 400 + "x",
    "__import__('os').system('touch /tmp/owned')",
    "3\\frac{" * 38 + "1" + "}{2}" * 38,
    "\\{1,{" * 18 + "1" + "}\\}" * 18,
    "\\pm 1\\pm\\{1," * 38 + "\\}" * 38,
    "().__class__.__bases__[0].__subclasses__()",
    "lambda: 0",
    "\ud800",
    "\x00" * 1000,
    "٣" * 100,
    "²" * 5000,
    "½",
    "answer is" + "a:\n" * 3000,
    "answer is" + " is 1" * 2000,
    "answer is " + "is " * 2000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_input_ends_soon(text):
    def timed(call, *arguments):
        start = time.process_time()
        verdict = call(*arguments)
        assert time.process_time() - start < 0.5
        return verdict

    for gold in ("6", "\\sqrt{2}", "x+1", "(1,2)", "1,2", "[1,2)", "x>1", "3\\text{ cm}"):
        assert not timed(equivalent, text, gold)
        assert not timed(verify, f"\\boxed{{{text}}}", gold)
    timed(verify, text, "6")
    timed(equivalent, "6", text)
    timed(equivalent, text, text + " + 1")
    timed(equivalent, text, text + text)


def test_what_is_no_text_is_no_answer():
    assert extract_answer(None) is None
    for pair in ((None, "1"), ("1", None), (1, 1), (b"1", "1"), (["1"], "1")):
        assert verify(*pair) is False
        assert equivalent(*pair) is False


def test_huge_integers_are_compared_digit_by_digit():
    digits = "".join(random.Random(0).choices("0123456789", k=50_000))
    assert equivalent("1" + digits, "01" + digits)
    assert verify(f"\\boxed{{1{digits}}}", "1" + digits)
    assert not equivalent("1" + digits + "1", "1" + digits + "2")


PIECES = (
    "0 1 2 17 3.5 .5 x y n i e \\pi \\frac \\sqrt ^ _ { } ( ) [ ] \\{ \\} | + - * / = < > \\le \\ne \\pm \\mp , ; : ! % \\% \\$ $ "
    "\\cup \\setminus \\in \\infty \\R \\mathbb{R} \\text{ cm} \\text{or} and or \\text{ \\sin \\ln \\log_ \\arcsin \\binom \\circ ^\\circ "
    "\\begin{pmatrix} \\end{pmatrix} & \\\\ \\overline 0. \\lfloor \\rfloor \\emptyset \\boxed{ \\boxed \\left \\right. \\over \\choose "
    "million dollars square per A (B) ' . ? ~ # √ ² ≤ ∞ é 𝟙 \\ \\, \\! {,} \\approx"
).split(" ")
PIECES += """answer is|Answer: |####|not|than|at least|maybe|<think>|</think>|<answer>|</s>|**|```|A: |选|答案|=>|for|where|0.33...|3:05
p.m.|Yes|No|\\pmod|\\equiv|\\sum_{k=1}^{3}|\\begin{cases}|\\end{cases}""".replace("\n", "|\n|").split("|")


def test_fuzz_a_million_characters():
    """Nothing raises, and verdicts are symmetric."""
    draw = random.Random(0)
    characters = 0
    previous = "1"
    while characters < 1_000_000:
        pieces = draw.choices(PIECES, k=draw.randint(1, 14))
        text = draw.choice(("", " ")).join(pieces)
        assert equivalent(text, previous) == equivalent(previous, text)
        verify(text, previous)
        characters += 3 * len(text) + 3 * len(previous)
        previous = text


def test_threads_agree():
    cases = CASES[::7]
    expected = [equivalent(answer, gold) for _, gold, answer, _ in cases]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert list(pool.map(lambda case: equivalent(case[2], case[1]), cases)) == expected


def test_command_line(tmp_path):
    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "tools.grade", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    assert run("\\boxed{0.5}", "1/2") == (
        0,
        "answer:  '0.5', read as 1/2\ngold:    '1/2', read as 1/2\nverdict: equal\n",
        "",
    )
    code, out, _ = run("\\boxed{10^{10^6}!}", "6")
    assert code == 1
    assert "beyond" in out
    assert run("x")[0] == 2
    code, _, error = run("--score", str(tmp_path / "none.jsonl"))
    assert code == 2
    assert len(error.splitlines()) == 1
    bad = tmp_path / "bad.jsonl"
    for line in ("{", "[1]", "3", '{"response": 1, "gold": "1", "expected": true}', '{"response": "1"}', ""):
        bad.write_text(line + "\n")
        code, _, error = run("--score", str(bad))
        assert code == 2
        assert len(error.splitlines()) == 1
    good = tmp_path / "good.jsonl"
    good.write_text('{"response": "\\\\boxed{1}", "gold": "1", "expected": false, "kind": "int"}\n')
    code, out, _ = run("--score", str(good))
    assert code == 0
    assert "false positive" in out
    code, out, _ = run("--worst", str(good))
    assert code == 0
    assert len(out.splitlines()) == 2


quick = settings(
    derandomize=True, database=None, deadline=None, max_examples=120, suppress_health_check=list(HealthCheck)
)
integers = st.integers(-999, 999)
positive = st.integers(2, 60)
leaves = st.one_of(
    integers.map(str),
    st.builds(r"\frac{{{}}}{{{}}}".format, integers, positive),
    st.builds(r"{}\sqrt{{{}}}".format, positive, positive),
    st.sampled_from([r"\pi", "x", "2y", "e", "3i", "x^2", "0.25"]),
)


def joined(parts):
    sums = st.builds("({} + {})".format, parts, parts) | st.builds("({} - {})".format, parts, parts)
    return sums | st.builds(r"{} \cdot {}".format, sums, sums) | st.builds(r"\frac{{{}}}{{{}}}".format, parts, positive)


expressions = leaves | joined(leaves | joined(leaves))
wholes = st.one_of(
    expressions,
    st.builds("({}, {})".format, expressions, expressions),
    st.builds("{}, {}".format, expressions, expressions),
    st.builds("[{}, {})".format, integers, st.integers(1000, 2000)),
    st.builds("x > {}".format, integers),
)


@quick
@given(wholes, wholes)
def test_reflexive_and_symmetric(a, b):
    assert equivalent(a, a + " ")
    assert equivalent(rf"\text{{ }}{a}", a)
    assert equivalent(a, b) == equivalent(b, a)


@quick
@given(
    wholes,
    st.sampled_from(
        [(" ", ""), (" ", "\\, "), ("\\frac", "\\dfrac"), ("\\cdot", "\\times"), ("(", "\\left("), ("-", "\u2212")]
    ),
)
def test_harmless_rewriting(a, change):
    b = a.replace(*change)
    assert equivalent(a, b.replace(")", "\\right)") if change[0] == "(" else b)
    assert equivalent(a, f"${a}$")
    assert equivalent(a, a.replace(r"\pi", "{\\pi}"))


@quick
@given(expressions, expressions)
def test_commutation(a, b):
    assert equivalent(f"{a} + {b}", f"{b} + {a}")
    assert equivalent(rf"({a}) \cdot ({b})", f"({b})({a})")
    assert equivalent(f"{{ {a} }}", f"(({a}))")


@quick
@given(expressions, positive)
def test_a_change_of_value_is_seen(a, n):
    assert not equivalent(a, f"{a} + {n}")
    assert not equivalent(a, rf"{a} + 10^{{-{n}}}")
    assert not equivalent(f"({a}, 1)", f"(1, {a} + {n})")
    assert not equivalent(a, f"{a}, {a} + {n}")


@quick
@given(st.integers(10, 10**30), st.data())
def test_a_changed_digit_is_seen(n, data):
    digits = list(str(n))
    at = data.draw(st.integers(0, len(digits) - 1))
    digits[at] = data.draw(st.sampled_from([d for d in "123456789" if d != digits[at]]))
    changed = "".join(digits)
    for form in (
        "{}",
        "-{}",
        r"\frac{{{}}}{{7}}",
        r"\sqrt{{{}}}",
        "({}, 2)",
        "[0, {})",
        "x > {}",
        r"{}\pi",
        r"{}\text{{ cm}}",
    ):
        assert not equivalent(form.format(n), form.format(changed))
        assert equivalent(form.format(n), form.format(f"{n:,}".replace(",", "{,}")))
    assert not equivalent(str(n), f"-{n}")


@quick
@given(integers, st.integers(1000, 2000))
def test_a_changed_bracket_is_seen(low, high):
    forms = [f"{left}{low}, {high}{right}" for left in "([" for right in ")]"] + [f"\\{{{low}, {high}\\}}"]
    for a, b in combinations(forms, 2):
        assert not equivalent(a, b)
